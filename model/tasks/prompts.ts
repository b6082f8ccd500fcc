import { invalidData } from '../files/textFiles.js';
import type { Field, Task } from './taskFile.js';
import { evaluated, type TaskRow } from './taskRows.js';

/** A text and its continuation, whose log-likelihood is asked for. */
export interface TextRequest {
  readonly context: string;
  readonly continuation: string;
}

/** What is asked about a row. */
export interface Prompt {
  readonly row: TaskRow;
  /** One per choice, or the only one. */
  readonly requests: readonly TextRequest[];
  /** The texts by whose length acc_norm and acc_bytes divide; of a task without choices none. */
  readonly choices: readonly string[];
  /** Indices of the right choices; of a task without choices none. */
  readonly gold: readonly number[];
}

/** The prompts of a task's rows, character for character as lm-eval 0.4.13 makes them without a chat template. */
export class Prompter {
  /** Whether choices are contexts that one continuation follows, as in WinoGrande: decided by the first row. */
  readonly #multipleInput: boolean;

  constructor(
    private readonly task: Task,
    private readonly rows: readonly TaskRow[],
    /** Where examples come from; without them the rows themselves, never the row in question. */
    private readonly examples: readonly TaskRow[] | undefined,
    private readonly fewshot: number,
  ) {
    const [first] = rows;
    this.#multipleInput = first !== undefined && typeof this.#text(first) === 'number';
  }

  /** @throws RmError DATA_INVALID naming file, line and field. */
  prompt(row: TaskRow): Prompt {
    const { task } = this;
    const before = this.#description(row) + this.#exampleTexts(row);
    const text = this.#text(row);
    const target = this.#target(row);
    if (task.outputType === 'loglikelihood') {
      const request = {
        context: before + this.#string(text, 'doc_to_text', row),
        continuation: String(target),
      };
      return { row, requests: [request], choices: [], gold: [] };
    }
    const choices = this.#choices(row);
    const delimited = (continuation: string) => `${task.targetDelimiter}${continuation}`;
    if (this.#multipleInput) {
      const continuation = delimited(String(target));
      return {
        row,
        requests: choices.map(choice => ({ context: before + choice, continuation })),
        choices,
        gold: this.#gold(text, choices, 'doc_to_text', row),
      };
    }
    const context = before + this.#string(text, 'doc_to_text', row);
    return {
      row,
      requests: choices.map(choice => ({ context, continuation: delimited(choice) })),
      choices,
      gold: this.#gold(target, choices, 'doc_to_target', row),
    };
  }

  #description(row: TaskRow): string {
    const { description } = this.task;
    return description ? String(this.#value(description, 'description', row)) : '';
  }

  /** lm-eval's first_n: the first rows, of the rows themselves without those that equal the one in question. */
  #exampleTexts(row: TaskRow): string {
    const { task, fewshot } = this;
    if (fewshot === 0) return '';
    const group = (of: TaskRow) => (task.groupBy === undefined ? undefined : of.values[task.groupBy]);
    const own = this.examples === undefined;
    const same = (other: TaskRow) =>
      other === row || JSON.stringify(other.values) === JSON.stringify(row.values);
    const chosen: TaskRow[] = [];
    for (const candidate of this.examples ?? this.rows) {
      if (chosen.length === fewshot) break;
      if (group(candidate) === group(row) && !(own && same(candidate))) chosen.push(candidate);
    }
    if (chosen.length < fewshot) {
      const which = task.groupBy === undefined ? '' : ` with the same "${task.groupBy}"`;
      throw invalidData(
        `${row.where}: ${fewshot} examples are asked for, there are ${chosen.length} other rows${which}`,
        'Ask for fewer with --fewshot, or give more rows with --fewshot-rows.',
      );
    }
    return chosen.map(example => this.#exampleText(example)).join('');
  }

  #exampleText(row: TaskRow): string {
    const { task } = this;
    const text = this.#text(row);
    const choices = task.docToChoice ? this.#choices(row) : undefined;
    const question = this.#multipleInput
      ? choices![this.#gold(text, choices!, 'doc_to_text', row)[0]!]!
      : this.#string(text, 'doc_to_text', row);
    const target = this.#target(row);
    if (target === '') return question;
    const [first] = Array.isArray(target) ? target : [target];
    const byIndex = !this.#multipleInput && choices && typeof first === 'number';
    const answer = byIndex
      ? choices[this.#gold(first, choices, 'doc_to_target', row)[0]!]!
      : this.#string(first, 'doc_to_target', row);
    return `${question}${task.targetDelimiter}${answer}${task.fewshotDelimiter}`;
  }

  /** A number stands for the right one of the choices, which then are contexts. */
  #text(row: TaskRow): unknown {
    return this.#numbered(this.task.docToText, 'doc_to_text', row);
  }

  #target(row: TaskRow): unknown {
    const value = this.#numbered(this.task.docToTarget, 'doc_to_target', row);
    return typeof value === 'boolean' ? Number(value) : value;
  }

  /** As lm-eval resolves them: digits that a template prints are a number where there are choices. */
  #numbered(field: Field, name: string, row: TaskRow): unknown {
    const value = this.#value(field, name, row);
    const printed = field.kind === 'template' && !Object.hasOwn(row.values, field.template.source);
    const digits = printed && typeof value === 'string' && /^\d+$/.test(value);
    return digits && this.task.docToChoice ? Number(value) : value;
  }

  /** The row's field of that name, else what the template gives; lists stay lists. */
  #value(field: Field, name: string, row: TaskRow): unknown {
    if (field.kind === 'constant') return field.value;
    const { template } = field;
    if (Object.hasOwn(row.values, template.source)) return row.values[template.source];
    return evaluated(
      () => {
        const value = template.value(row.values);
        return Array.isArray(value) ? value : template.text(row.values);
      },
      this.task,
      name,
      row.where,
      row.values,
    );
  }

  #choices(row: TaskRow): string[] {
    const found = this.#value(this.task.docToChoice!, 'doc_to_choice', row);
    if (Array.isArray(found) && found.length > 0 && found.every(choice => typeof choice === 'string')) {
      return found;
    }
    throw invalidData(
      `${row.where}: "doc_to_choice" of task ${this.task.name} gives ${shown(found)}, no list of texts`,
      'It should be a list, the name of a field that holds one, or one expression {{...}} that gives one.',
    );
  }

  #string(value: unknown, name: string, row: TaskRow): string {
    if (typeof value === 'string') return value;
    throw invalidData(
      `${row.where}: "${name}" of task ${this.task.name} gives ${shown(value)}, no text`,
      'Compare the row with those before it: a field may be missing or of another kind.',
    );
  }

  #gold(value: unknown, choices: readonly string[], name: string, row: TaskRow): number[] {
    return (Array.isArray(value) ? value : [value]).map(one => {
      const index = typeof one === 'string' ? choices.indexOf(one) : one;
      if (Number.isInteger(index) && index >= 0 && index < choices.length) return index as number;
      throw invalidData(
        `${row.where}: "${name}" of task ${this.task.name} gives ${shown(one)}, none of the ${choices.length} choices`,
        'It should be the index of the right choice, counted from 0, or its text. Test sets without answers cannot be used.',
      );
    });
  }
}

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 80) ?? 'nothing';
