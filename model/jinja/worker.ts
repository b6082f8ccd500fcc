import { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { parentPort } from 'node:worker_threads';
import { loadPyodide } from 'pyodide';

/**
 * The worker thread of `python.ts`: Python as WebAssembly, which has no file, no network and no JavaScript. It answers
 * requests one by one, in JSON.
 */

/** Of the library's declarations, the part used here: TypeScript's libraries for Node leave WebAssembly out. */
interface Memory {
  readonly buffer: ArrayBuffer;
  grow(pages: number): number;
}
declare const WebAssembly: { readonly Memory: { readonly prototype: Memory } };

/** Most memory of Python, itself included (about 30 MB). Beyond it Python raises MemoryError. */
const MOST_BYTES = 2 ** 28;
const PAGE_BYTES = 2 ** 16;

const { grow } = WebAssembly.Memory.prototype;
WebAssembly.Memory.prototype.grow = function (this: Memory, pages: number): number {
  if (this.buffer.byteLength + pages * PAGE_BYTES > MOST_BYTES) throw new RangeError('too much memory');
  return grow.call(this, pages);
};

// Emscripten would open web sockets for Python's.
Socket.prototype.connect = () => {
  throw new Error('templates have no network');
};

const python = await loadPyodide({
  stdLibURL: fileURLToPath(new URL('python.zip', import.meta.url)),
  jsglobals: {},
  env: {},
  stdin: () => null,
  stdout: () => {},
  stderr: () => {},
});
const answer = python.runPython('import worker_entry\nworker_entry.answer') as (request: string) => string;
parentPort!.on('message', (request: string) => parentPort!.postMessage(answer(request)));
parentPort!.postMessage('ready');
