import { RmError } from './errors.js';
import { didYouMean } from './nearestWord.js';
import type { ParameterType } from './program.js';

/** Most 32-bit words of a uniform block. */
export const mostWords = 64;

const scalars = /^(?:u32|i32|f32)$/;

/** Words of a WGSL type and the words that its offset is a multiple of; undefined for other types than numbers and vectors. */
function extent(type: string): { words: number; align: number } | undefined {
  if (scalars.test(type)) return { words: 1, align: 1 };
  const vector = /^vec([234])(?:[fui]|<(?:u32|i32|f32)>)$/.exec(type);
  if (!vector) return undefined;
  const words = Number(vector[1]);
  return { words, align: words === 2 ? 2 : 4 };
}

/**
 * Number of 32-bit words up to the end of the last field of the uniform block that a WGSL text declares; 0 without a block,
 * undefined for a block of other types than numbers and vectors.
 */
export function uniformWords(wgsl: string): number | undefined {
  const code = wgsl.replace(/\/\/.*$/gm, '').replace(/\/\*[\s\S]*?\*\//g, '');
  const type = /var<uniform>\s+\w+\s*:\s*([\w<>]+)\s*;/.exec(code)?.[1];
  if (!type) return code.includes('<uniform>') ? undefined : 0;
  const body = new RegExp(`struct\\s+${type}\\s*\\{([^}]*)\\}`).exec(code)?.[1];
  const types = body === undefined ? [type] : fieldTypes(body);
  let end = 0;
  for (const field of types) {
    const one = extent(field);
    if (!one) return undefined;
    end = Math.ceil(end / one.align) * one.align + one.words;
  }
  return end;
}

const fieldTypes = (body: string): string[] =>
  body
    .split(',')
    .map(field => field.trim())
    .filter(field => field !== '')
    .map(field => field.split(':')[1]?.trim() ?? '');

/** Throws INVALID_ARGUMENT: what the parameter should be. */
function refuse(key: string, name: string, value: unknown, type: string, fix: string): never {
  const shown = value === undefined ? 'missing' : typeof value === 'number' ? String(value) : typeof value;
  throw new RmError('INVALID_ARGUMENT', `'${key}': parameter ${name} is ${shown}, ${type} is needed`, fix);
}

/** The parameters that a program reads. */
interface Parameters {
  readonly key: string;
  readonly params: readonly (readonly [name: string, type: ParameterType])[] | undefined;
  readonly words: number | undefined;
}

/** Writes uniform blocks into one array of words, and checks them against the programs that will read them. */
export class UniformWords {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly #floats: Float32Array;

  constructor(count: number) {
    this.words = new Uint32Array(count);
    this.#floats = new Float32Array(this.words.buffer);
  }

  /**
   * Writes the parameters of one dispatch from word `at` on: by name, or as words.
   *
   * @throws RmError INVALID_ARGUMENT when one is missing, unknown, or of another type.
   */
  write(program: Parameters, params: readonly number[] | Readonly<Record<string, number>>, at: number): void {
    if (program.params) this.#writeNamed(program.key, program.params, params, at);
    else this.#writeWords(program, params, at);
  }

  #writeNamed(key: string, names: NonNullable<Parameters['params']>, params: unknown, at: number): void {
    const values = (typeof params === 'object' && params !== null ? params : {}) as Record<string, number>;
    for (let i = 0; i < names.length; i++) {
      const [name, type] = names[i]!;
      const value = values[name];
      if (type === 'f32') {
        if (typeof value !== 'number') refuse(key, `'${name}'`, value, 'a number', 'Pass every parameter.');
        this.#floats[at + i] = value;
      } else {
        const whole = type === 'u32' ? value! >>> 0 : value! | 0;
        if (whole !== value)
          refuse(key, `'${name}'`, value, `a whole number (${type})`, 'Pass such a number.');
        this.words[at + i] = whole;
      }
    }
    for (const name in values) {
      if (names.some(known => known[0] === name)) continue;
      const known = names.map(([each]) => each);
      const fix = `${didYouMean(name, known)}It has ${known.join(', ') || 'none'}.`;
      throw new RmError('INVALID_ARGUMENT', `'${key}' has no parameter '${name}'`, fix);
    }
  }

  #writeWords({ key, words = 0 }: Parameters, params: unknown, at: number): void {
    // More may come: programs of one kernel take the same list, and some read only its beginning.
    if (!Array.isArray(params) || params.length < words || params.length > mostWords) {
      throw new RmError(
        'INVALID_ARGUMENT',
        `'${key}' got ${Array.isArray(params) ? `${params.length} parameters` : 'no list of parameters'}, its uniform block has ${words} words`,
        `Pass one number for each 32-bit word, at most ${mostWords}.`,
      );
    }
    for (let i = 0; i < params.length; i++) {
      const word = params[i] as number;
      if (word >>> 0 !== word)
        refuse(key, String(i + 1), word, 'a u32 word', 'Declare `params` in the program, or use f32Bits.');
      this.words[at + i] = word;
    }
  }
}
