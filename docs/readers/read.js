// Scores with a model that `memae export --to onnx` wrote: npm install onnxruntime-node
// node read.js FOLDER            prints the largest relative difference of a golden score
// node read.js FOLDER rows.json  prints score and verdict of each row: [{"column": value, ...}, ...]
const { readFileSync } = require("node:fs");
const { join } = require("node:path");
const { inflateSync } = require("node:zlib");
const ort = require("onnxruntime-node");

const ARRAYS = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, uint8: Uint8Array };

function unpacked({ dtype, shape, zlib_base64: packed }) {
  const bytes = inflateSync(Buffer.from(packed, "base64"));
  return new ort.Tensor(dtype, new ARRAYS[dtype](new Uint8Array(bytes).buffer), shape);
}

function feedsOf(rows, columns) {
  const missing = (value) => value === null || value === undefined || value === "";
  const numbers = columns.filter((column) => column.kind === "number");
  const others = columns.filter((column) => column.kind !== "number");
  const number = (row, { name }) => (missing(row[name]) ? NaN : Number(row[name]));
  const code = (row, { name, categories }) => {
    const place = categories.indexOf(missing(row[name]) ? "" : String(row[name]));
    return BigInt(place < 0 ? categories.length : place);
  };
  const tensor = (dtype, wanted, cell) =>
    new ort.Tensor(dtype, ARRAYS[dtype].from(rows.flatMap((row) => wanted.map((column) => cell(row, column)))),
      [rows.length, wanted.length]);
  return { ...(numbers.length && { numbers: tensor("float64", numbers, number) }),
    ...(others.length && { codes: tensor("int64", others, code) }) };
}

async function main(folder, file) {
  const said = JSON.parse(readFileSync(join(folder, "model.json"), "utf8"));
  const session = await ort.InferenceSession.create(join(folder, said.file));
  const { inputs, scores } = said.golden;
  const feeds = file ? feedsOf(JSON.parse(readFileSync(file, "utf8")), said.columns)
    : Object.fromEntries(Object.entries(inputs).map(([name, array]) => [name, unpacked(array)]));
  const [score, verdict] = said.outputs.map((output) => output.name);
  const found = await session.run(feeds);
  if (file) found[score].data.forEach((one, row) => console.log(`${one},${Boolean(found[verdict].data[row])}`));
  else console.log(Math.max(...scores.flat().map((one, at) => Math.abs(found[score].data[at] - one) / Math.abs(one))));
}

main(...process.argv.slice(2));
