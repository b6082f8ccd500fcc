import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

let collect: (() => void) | undefined;

/**
 * Makes V8 collect garbage now. Dawn frees a native object when V8 collects its handle, but a handle is only a few bytes
 * to V8, which is in no hurry. Node exposes the collector only through this flag.
 */
export function collectGarbage(): void {
  if (!collect) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
    setFlagsFromString('--no-expose-gc');
  }
  collect();
}
