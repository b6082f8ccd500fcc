import { invalidData } from '../files/textFiles.js';
import type { Field, Task } from './taskFile.js';
import { fieldValue, type TaskRow } from './taskRows.js';
import { evaluateTemplates, type Outcome } from './templates.js';

/** A text and the continuation whose log-likelihood is scored. */
export interface TextRequest {
  readonly context: string;
  readonly continuation: string;
}

/** The requests made for one row. */
export interface Prompt {
  readonly row: TaskRow;
  /** One per choice, or a single one in a task without choices. */
  readonly requests: readonly TextRequest[];
  /** Texts whose length divides acc_norm and acc_bytes; empty in a task without choices. */
  readonly choices: readonly string[];
  /** Indices of the correct choices; empty in a task without choices. */
  readonly gold: readonly number[];
}

type FieldName = 'description' | 'doc_to_text' | 'doc_to_choice' | 'doc_to_target';

const fieldsOf = (task: Task): Readonly<Record<FieldName, Field | undefined>> => ({
  description: task.description,
  doc_to_text: task.docToText,
  doc_to_choice: task.docToChoice,
  doc_to_target: task.docToTarget,
});

/** Makes prompts from a task's rows, character for character like lm-eval 0.4.13 without a chat template. */
export class Prompter {
  /** Whether choices are contexts with a common continuation, as in WinoGrande; decided by the first row. */
  #multipleInput = false;
  /** What the templates gave. */
  readonly #outcomes = new Map<TaskRow, Readonly<Record<string, Outcome>>>();

  constructor(
    private readonly task: Task,
    private readonly rows: readonly TaskRow[],
    /** Rows of the few-shot examples; undefined: the rows themselves, without the row in question. */
    private readonly examples: readonly TaskRow[] | undefined,
    private readonly fewshot: number,
  ) {}

  /** @throws RmError DATA_INVALID naming file, line and field; CONFIG_INVALID for a template that takes too much. */
  async prompts(rows: readonly TaskRow[]): Promise<Prompt[]> {
    await this.#evaluate([...rows, ...this.rows.slice(0, 1)]);
    const [first] = this.rows;
    this.#multipleInput = first !== undefined && typeof this.#text(first) === 'number';
    return rows.map(row => this.#prompt(row));
  }

  /** Evaluates the templates for the rows and their examples. */
  async #evaluate(rows: readonly TaskRow[]): Promise<void> {
    const { task } = this;
    const templates = Object.fromEntries(
      Object.entries(fieldsOf(task)).flatMap(([name, field]) =>
        field?.kind === 'template' ? [[name, field.template]] : [],
      ),
    );
    const needed = [...new Set(rows.flatMap(row => [row, ...this.#examplesFor(row)]))];
    const outcomes = await evaluateTemplates(
      task.path,
      needed.map(({ exact }) => exact),
      templates,
    );
    for (const [i, row] of needed.entries()) this.#outcomes.set(row, outcomes[i]!);
  }

  #prompt(row: TaskRow): Prompt {
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
    return this.task.description ? String(this.#value('description', row)) : '';
  }

  #exampleTexts(row: TaskRow): string {
    return this.#examplesFor(row)
      .map(example => this.#exampleText(example))
      .join('');
  }

  /** lm-eval's first_n: the first example rows; if the rows themselves serve, without those equal to the row in question. */
  #examplesFor(row: TaskRow): TaskRow[] {
    const { task, fewshot } = this;
    if (fewshot === 0) return [];
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
        `${row.where}: ${fewshot} examples are requested, but there are only ${chosen.length} other rows${which}`,
        'Use a smaller `fewshot`, or give more rows as `fewshotRows`.',
      );
    }
    return chosen;
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

  /** A number is the index of the correct choice; the choices are then contexts. */
  #text(row: TaskRow): unknown {
    return this.#numbered('doc_to_text', row);
  }

  #target(row: TaskRow): unknown {
    const value = this.#numbered('doc_to_target', row);
    return typeof value === 'boolean' ? Number(value) : value;
  }

  /** As in lm-eval, digits printed by a template are a number if the task has choices. */
  #numbered(name: FieldName, row: TaskRow): unknown {
    const value = this.#value(name, row);
    const field = fieldsOf(this.task)[name]!;
    const printed = field.kind === 'template' && !Object.hasOwn(row.values, field.template);
    const digits = printed && typeof value === 'string' && /^\d+$/.test(value);
    return digits && this.task.docToChoice ? Number(value) : value;
  }

  /** The row's field with the template's text as its name, else what the template gives; lists stay lists. */
  #value(name: FieldName, row: TaskRow): unknown {
    const field = fieldsOf(this.task)[name]!;
    if (field.kind === 'constant') return field.value;
    if (Object.hasOwn(row.values, field.template)) return row.values[field.template];
    return fieldValue(this.#outcomes.get(row)![name]!, this.task, name, row);
  }

  #choices(row: TaskRow): string[] {
    const choices = this.#value('doc_to_choice', row);
    if (Array.isArray(choices) && choices.length > 0 && choices.every(choice => typeof choice === 'string')) {
      return choices;
    }
    throw invalidData(
      `${row.where}: "doc_to_choice" of task ${this.task.name} gives ${shown(choices)}, not a list of texts`,
      'It should be a list, the name of a field with a list, or a single expression {{...}} that gives a list.',
    );
  }

  #string(value: unknown, name: string, row: TaskRow): string {
    if (typeof value === 'string') return value;
    throw invalidData(
      `${row.where}: "${name}" of task ${this.task.name} gives ${shown(value)}, not a text`,
      'Compare the row with those before it: a field may be missing or have another type.',
    );
  }

  #gold(value: unknown, choices: readonly string[], name: string, row: TaskRow): number[] {
    return (Array.isArray(value) ? value : [value]).map(one => {
      const index = typeof one === 'string' ? choices.indexOf(one) : one;
      if (Number.isInteger(index) && index >= 0 && index < choices.length) return index as number;
      throw invalidData(
        `${row.where}: "${name}" of task ${this.task.name} gives ${shown(one)}, which is none of the ${choices.length} choices`,
        'It should be the index of the correct choice, counted from 0, or its text. Test sets without answers cannot be used.',
      );
    });
  }
}

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 80) ?? 'nothing';
