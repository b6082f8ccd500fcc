import { RmError } from '../../engine/index.js';
import { checkPatterns, checkTemplates } from './templates.js';

/** How to get a value from a row: by the field with the template's text as its name, else by the template, or a constant. */
export type Field =
  | { readonly kind: 'constant'; readonly value: unknown }
  | { readonly kind: 'template'; readonly template: string };

/** Reads a task file's values; every error names the file and the field. */
export class TaskFileReader {
  readonly #templates: [field: string, source: string][] = [];
  readonly #patterns: [field: string, source: string][] = [];

  constructor(
    readonly path: string,
    readonly values: Readonly<Record<string, unknown>>,
  ) {}

  wrong(field: string, message: string, fix: string): RmError {
    return new RmError('CONFIG_INVALID', `${this.path}: "${field}" ${message}`, fix);
  }

  text(field: string): string | undefined {
    const value = this.values[field] ?? undefined;
    if (value === undefined || typeof value === 'string') return value;
    throw this.wrong(field, `is ${JSON.stringify(value)}`, 'It should be a text.');
  }

  requiredText(field: string): string {
    const value = this.text(field);
    if (value) return value;
    throw this.wrong(field, 'is missing', 'Add it; docs/tasks.md explains the fields of a task file.');
  }

  /** A template, which `checkTemplates` checks with all others. */
  template(field: string, source: string): string {
    this.#templates.push([field, source]);
    return source;
  }

  /** A regular expression of Python, which `checkSources` checks. */
  pattern(field: string, source: string): string {
    this.#patterns.push([field, source]);
    return source;
  }

  /** @throws RmError for the first template that is not Jinja, or the first pattern that is no regular expression. */
  async checkSources(): Promise<void> {
    await this.#check(
      this.#templates,
      checkTemplates,
      'is not a Jinja template',
      'Correct it: {{ }} prints a value, {% %} is a statement.',
    );
    await this.#check(
      this.#patterns,
      checkPatterns,
      'is not a regular expression',
      "Correct it, in the syntax of Python's module re.",
    );
  }

  async #check(
    sources: readonly (readonly [field: string, source: string])[],
    check: (path: string, sources: readonly string[]) => Promise<(string | null)[]>,
    message: string,
    fix: string,
  ): Promise<void> {
    if (sources.length === 0) return;
    const problems = await check(
      this.path,
      sources.map(([, source]) => source),
    );
    const wrong = problems.findIndex(problem => problem !== null);
    if (wrong >= 0) throw this.wrong(sources[wrong]![0], `${message}: ${problems[wrong]}`, fix);
  }

  /** Reads a field: a text is a field name or a template, anything else a constant. */
  field(name: string): Field | undefined {
    const value = this.values[name] ?? undefined;
    if (value === undefined) return undefined;
    if (typeof value === 'string') return { kind: 'template', template: this.template(name, value) };
    return { kind: 'constant', value };
  }

  requiredField(name: string): Field {
    this.values[name] ?? this.requiredText(name);
    return this.field(name)!;
  }
}
