import { createReadStream } from 'node:fs';
import { isRecord, RmError, reasonOf } from '../../engine/index.js';

/** Far more than anyone writes by hand: bytes; brackets that are open at a time; columns before a line's first value. */
const [MOST_BYTES, MOST_OPEN, MOST_INDENT] = [2 ** 24, 100, 400];

/**
 * Whether values may lie in each other deeper than that. The parser calls itself for every level, and where the stack ends
 * within a pattern, Node itself ends. Brackets within texts count too.
 */
function nestsTooDeep(text: string): boolean {
  let open = 0;
  for (const [bracket] of text.matchAll(/[[\]{}]/g)) {
    open = /[[{]/.test(bracket) ? open + 1 : Math.max(0, open - 1);
    if (open > MOST_OPEN) return true;
  }
  return new RegExp(`^(?:[ \\t]|[-?:][ \\t]){${MOST_INDENT}}`, 'm').test(text);
}

/** Whether values lie in each other deeper than that: aliases can make them endless, or as deep as the file has lines. */
const isDeeperThan = (levels: number, value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (levels === 0 || Object.values(value).some(inner => isDeeperThan(levels - 1, inner)));

/** Python's functions in task files of lm-eval. */
const PYTHON =
  'Python functions cannot run here: write them as Jinja, with "fields" for intermediate values.';

type Fail = (problem: string, fix: string, cause?: unknown, line?: number) => RmError;

/** A file as text, which may be a pipe; no more than MOST_BYTES are read. */
async function textOf(path: string, fail: Fail) {
  const pieces: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const piece of createReadStream(path)) {
      pieces.push(piece as Buffer);
      bytes += (piece as Buffer).byteLength;
      if (bytes > MOST_BYTES) break;
    }
  } catch (error) {
    throw fail(`cannot be read: ${reasonOf(error)}`, 'Check the path.', error);
  }
  if (bytes > MOST_BYTES) throw fail('has more than 16 MiB', 'Give a file of settings.');
  return Buffer.concat(pieces).toString('utf8');
}

const failureOf =
  (path: string): Fail =>
  (problem, fix, cause, line) =>
    new RmError('CONFIG_INVALID', `${path}${line ? `:${line}` : ''}: ${problem}`, fix, { cause });

/**
 * Reads a file of "name: value" lines, YAML or JSON. Aliases that stand for very much, and deep nesting, are refused.
 *
 * @throws RmError CONFIG_INVALID naming the file and, where one is known, the line.
 */
export async function readYamlFile(path: string): Promise<Record<string, unknown>> {
  return parseYaml(await textOf(path, failureOf(path)), path);
}

/** The same for a text that has been read. @param path of its file, for messages. */
export async function parseYaml(text: string, path: string): Promise<Record<string, unknown>> {
  const fail = failureOf(path);
  if (nestsTooDeep(text)) {
    throw fail(`nests lists and tables in more than ${MOST_OPEN} levels`, 'Write the values in few levels.');
  }
  const { parseDocument } = await import('yaml');
  let value: unknown;
  try {
    // JSON is YAML too.
    const document = parseDocument(text, { logLevel: 'error' });
    const [problem] = [...document.errors, ...document.warnings];
    if (problem) {
      const fix = /!function/.test(problem.message) ? PYTHON : 'Correct the place named.';
      throw fail(`neither JSON nor YAML: ${reasonOf(problem)}`, fix, problem, problem.linePos?.[0].line);
    }
    value = document.toJS({ maxAliasCount: 100 });
  } catch (error) {
    if (error instanceof RmError) throw error;
    const problem =
      error instanceof ReferenceError && /alias count/.test(error.message)
        ? 'its aliases (*name) stand for too many values'
        : `neither JSON nor YAML: ${reasonOf(error)}`;
    throw fail(problem, 'Write the values out, without aliases.', error);
  }
  if (isDeeperThan(MOST_INDENT, value)) {
    throw fail('its aliases (*name) stand for endless values', 'Write the values out, without aliases.');
  }
  if (isRecord(value)) return value;
  throw fail('is not a list of "name: value" lines', 'For example: layers: 4');
}
