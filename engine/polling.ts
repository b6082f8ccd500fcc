/** Milliseconds between two polls of a pending promise. */
const NAP = 0.3;

const cell = new Int32Array(new SharedArrayBuffer(4));

/**
 * Waits for one of Dawn's promises and sleeps between polls. Dawn's bindings poll in every turn of the event loop, which
 * takes a whole core while a promise is pending. A software adapter needs that core itself: without the sleep, a forward
 * pass on two cores took 1.9 times as long.
 */
export async function withNaps<T>(promise: Promise<T>): Promise<T> {
  let pending = true;
  const done = () => {
    pending = false;
  };
  promise.then(done, done);
  const nap = () => {
    if (!pending) return;
    // Nobody ever notifies the cell, so this sleeps.
    Atomics.wait(cell, 0, 0, NAP);
    setImmediate(nap);
  };
  setImmediate(nap);
  return promise;
}
