// Plays requests to the filter on V8, which is what Envoy runs it on, and prints where the time goes by V8's own profiler.
//
//     node --no-liftoff profile.mjs crowd.wasm [requests]
//
// The module must have its names (built without -s). The host here is as little of one as a request needs, so times of the
// module are comparable with each other and those of the host mean nothing. Everything is warmer than in Envoy, where what
// lies between two requests drives the module out of the caches.
import fs from "node:fs";
import inspector from "node:inspector/promises";

const [file, count = "300000"] = process.argv.slice(2);
const requests = Number(count);
const loop = 32; // requests in one iteration of the event loop; every second one begins with an acknowledgement
const queue = 1; // the module's name for its queue

const configuration = Buffer.from('{"routes": [{"name": "leads", "match": {"path": "/leads"}, "topic": "leads"}]}');
const headers = headerMap([
  [":authority", "shop.example"], [":path", "/leads"], [":method", "POST"], [":scheme", "https"], ["content-length", "512"],
  ["content-type", "application/json"], ["user-agent", "curl/8.5.0"], ["accept", "*/*"], ["x-forwarded-proto", "https"],
  ["x-request-id", "5f8d5a3e-9c0b-4d3a-8f43-0a9be1b2c3d4"],
]);
const body = Buffer.alloc(512, "x");
const properties = { "source\0address": "10.1.2.3:4444", plugin_name: "crowd" };
const ok = 0, notFound = 1;

// headerMap is proxy-wasm's form: count, lengths, then names and values, each followed by a NUL.
function headerMap(pairs) {
  const lengths = Buffer.alloc(4 + 8 * pairs.length);
  lengths.writeUInt32LE(pairs.length);
  pairs.flat().forEach((text, i) => lengths.writeUInt32LE(text.length, 4 + 4 * i));
  return Buffer.concat([lengths, Buffer.from(pairs.flat().map((text) => text + "\0").join(""))]);
}

let exports, memory, received;
let sent = []; // sequence numbers; 0 is Hello
let streams = 0;

const view = () => new DataView(memory.buffer);
const bytes = (at, size) => Buffer.from(memory.buffer, at, size);

function give(value, pointer, size) {
  const at = exports.malloc(value.length) >>> 0;
  bytes(at, value.length).set(value);
  view().setUint32(pointer, at, true);
  view().setUint32(size, value.length, true);
  return ok;
}

const proxy = {
  proxy_get_header_map_pairs: (_, pointer, size) => give(headers, pointer, size),
  proxy_get_buffer_bytes: (type, start, length, pointer, size) =>
    give({ 0: body, 5: received, 7: configuration }[type].subarray(start, start + length), pointer, size),
  proxy_get_property(path, length, pointer, size) {
    const value = properties[bytes(path, length).toString()];
    return value === undefined ? notFound : give(Buffer.from(value), pointer, size);
  },
  proxy_get_shared_data: () => notFound,
  proxy_register_shared_queue: (name, length, token) => (view().setUint32(token, queue, true), ok),
  proxy_dequeue_shared_queue: (token, pointer, size) => (view().setUint32(size, 0, true), ok),
  proxy_grpc_stream(...args) {
    view().setUint32(args.at(-1), ++streams, true);
    return ok;
  },
  // A message is a Hello (field 1) or a Batch (field 2), whose first field is its sequence.
  proxy_grpc_send(stream, message, length) {
    const raw = bytes(message, length);
    let at = 1;
    const varint = () => {
      let value = 0, scale = 1, byte;
      do {
        byte = raw[at++];
        value += (byte & 127) * scale;
        scale *= 128;
      } while (byte & 128);
      return value;
    };
    varint(); // length
    if (raw[0] === 0x12) at++; // tag
    sent.push({ stream, sequence: raw[0] === 0x12 ? varint() : 0 });
    return ok;
  },
};

const badFile = 8; // WASI's errno
const none = (count, size) => (view().setUint32(count, 0, true), view().setUint32(size, 0, true), ok);

const wasi = {
  args_sizes_get: none,
  environ_sizes_get: none,
  fd_prestat_get: () => badFile, // there are no directories
  clock_time_get(clock, _, time) {
    view().setBigUint64(time, clock === 0 ? BigInt(Date.now()) * 1_000_000n : process.hrtime.bigint(), true);
    return ok;
  },
  random_get: (at, size) => (crypto.getRandomValues(bytes(at, size)), ok),
  fd_write(_, vectors, n, written) {
    let total = 0;
    for (let i = 0; i < n; i++) {
      const at = view().getUint32(vectors + 8 * i, true), size = view().getUint32(vectors + 8 * i + 4, true);
      process.stderr.write(Buffer.from(bytes(at, size)));
      total += size;
    }
    view().setUint32(written, total, true);
    return ok;
  },
};

const varint = (n) => (n < 128 ? [n] : [(n % 128) | 128, ...varint(Math.floor(n / 128))]);

// answer plays a collector: a Welcome with a window, and acknowledgements at level kafka.
function answer() {
  const messages = sent;
  sent = [];
  for (const { stream, sequence } of messages) {
    const fields = sequence === 0 ? [0x10, ...varint(64 << 20)] : [0x08, ...varint(sequence), 0x10, 3];
    received = Buffer.from([sequence === 0 ? 0x0a : 0x12, fields.length, ...fields]);
    exports.proxy_on_grpc_receive(1, stream, received.length);
  }
}

// iteration is one of Envoy's event loop.
let context = 1;
function iteration(requests) {
  const first = context + 1;
  for (let i = 0; i < requests; i++) {
    exports.proxy_on_context_create(++context, 1);
    exports.proxy_on_request_headers(context, 10, 0);
    exports.proxy_on_request_body(context, body.length, 1);
  }
  exports.proxy_on_queue_ready(1, queue);
  for (let ended = first; ended <= context; ended++) exports.proxy_on_done(ended);
}

function play(n) {
  for (let i = loop; i <= n; i += loop) {
    iteration(loop);
    if (i % (2 * loop) === 0) answer();
    if (i % (32 * loop) === 0) exports.proxy_on_tick(1);
  }
}

const module = new WebAssembly.Module(fs.readFileSync(file));
const imports = { env: {}, wasi_snapshot_preview1: {} };
const calls = {};
for (const { module: from, name } of WebAssembly.Module.imports(module)) {
  const call = (from === "env" ? proxy : wasi)[name] ?? (() => ok);
  imports[from][name] = (...args) => {
    calls[name] = (calls[name] ?? 0) + 1;
    return call(...args);
  };
}
exports = new WebAssembly.Instance(module, imports).exports;
memory = exports.memory;
exports._initialize();
exports.proxy_on_vm_start(0, 0);
exports.proxy_on_context_create(1, 0);
if (!exports.proxy_on_configure(1, configuration.length)) throw new Error("the filter refuses its configuration");
iteration(1);
answer();
play(20_000);

for (const name in calls) calls[name] = 0;
const session = new inspector.Session();
session.connect();
await session.post("Profiler.enable");
await session.post("Profiler.setSamplingInterval", { interval: 100 });
await session.post("Profiler.start");
const before = process.cpuUsage();
play(requests);
const { user, system } = process.cpuUsage(before);
const { profile } = await session.post("Profiler.stop");

const functions = new Map(profile.nodes.map((node) => [node.id, node.callFrame]));
const spent = {};
profile.samples.forEach((id, i) => {
  const { functionName, url } = functions.get(id);
  const name = url.startsWith("wasm:") ? functionName : "(the host here)";
  spent[name] = (spent[name] ?? 0) + profile.timeDeltas[i];
});
const total = Object.values(spent).reduce((a, b) => a + b);
console.log(`${((user + system) / requests).toFixed(2)} µs of CPU a request; memory ${memory.buffer.byteLength >> 20} MiB`);
console.log("\nhost calls a request");
for (const [name, n] of Object.entries(calls)) if (n > 0) console.log(`${(n / requests).toFixed(3).padStart(8)} ${name}`);
console.log("\nself time, %");
for (const [name, time] of Object.entries(spent).sort((a, b) => b[1] - a[1]).slice(0, 40))
  console.log(`${((100 * time) / total).toFixed(1).padStart(8)} ${name}`);
