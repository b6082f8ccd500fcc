/** Between two looks at a pending promise, in milliseconds. */
const NAP = 0.3;

const cell = new Int32Array(new SharedArrayBuffer(4));

/**
 * Waits for a promise of Dawn's bindings with naps in between. The bindings look for answers in every turn of the event
 * loop, without rest: as long as a promise is pending, that takes a whole core. A software adapter needs that core itself
 * (on two of them a forward pass took 1.9 times as long).
 */
export async function withNaps<T>(promise: Promise<T>): Promise<T> {
  let pending = true;
  const done = () => {
    pending = false;
  };
  promise.then(done, done);
  const nap = () => {
    if (!pending) return;
    // Nobody ever wakes it: this is a sleep.
    Atomics.wait(cell, 0, 0, NAP);
    setImmediate(nap);
  };
  setImmediate(nap);
  return promise;
}
