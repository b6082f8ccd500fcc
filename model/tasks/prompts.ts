import { entryOf } from '../../engine/index.js';
import { invalidData } from '../files/textFiles.js';
import { chooseExamples, type ExampleSource } from './exampleRows.js';
import { readLists } from './judging.js';
import type { PromptWriter, Turn } from './promptText.js';
import type { Task } from './taskFile.js';
import type { Field } from './taskFileReader.js';
import { fieldValue, type TaskRow } from './taskRows.js';
import { evaluateTemplates, type Outcome } from './templates.js';

/** A text and the continuation whose log-likelihood is scored, or of a generated answer the first right one. */
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
  /** Right answers of a task whose answers are generated. */
  readonly targets?: readonly unknown[];
}

type FieldName = 'description' | 'doc_to_text' | 'doc_to_choice' | 'doc_to_target';

const fieldsOf = (task: Task): Readonly<Record<FieldName, Field | undefined>> => ({
  description: task.description,
  doc_to_text: task.docToText,
  doc_to_choice: task.docToChoice,
  doc_to_target: task.docToTarget,
});

/** Makes prompts from a task's rows, character for character like lm-eval 0.4.13. */
export class Prompter {
  /** Whether choices are contexts with a common continuation, as in WinoGrande; decided by the first row. */
  #multipleInput = false;
  /** What the templates gave. */
  readonly #outcomes = new Map<TaskRow, Readonly<Record<string, Outcome>>>();

  constructor(
    private readonly task: Task,
    private readonly source: ExampleSource,
    private readonly writer: PromptWriter,
  ) {}

  /** @throws RmError DATA_INVALID naming file, line and field; CONFIG_INVALID for a template that takes too much. */
  async prompts(rows: readonly TaskRow[]): Promise<Prompt[]> {
    const examples = await chooseExamples(this.task, rows, this.source);
    const [first] = this.source.rows;
    await this.#evaluate(new Set([...rows, ...[...examples.values()].flat(), ...(first ? [first] : [])]));
    this.#multipleInput = first !== undefined && typeof this.#text(first) === 'number';
    const prompts: Prompt[] = [];
    for (const row of rows) prompts.push(await this.#prompt(row, examples.get(row)!));
    return prompts;
  }

  /** Evaluates the templates for rows and examples. */
  async #evaluate(rows: ReadonlySet<TaskRow>): Promise<void> {
    const { task } = this;
    const templates = Object.fromEntries(
      Object.entries(fieldsOf(task)).flatMap(([name, field]) =>
        field?.kind === 'template' ? [[name, field.template]] : [],
      ),
    );
    const outcomes = await evaluateTemplates(
      task.path,
      [...rows].map(({ exact }) => exact),
      templates,
    );
    const read = task.outputType === 'generate_until' ? await withLists(task, outcomes) : outcomes;
    for (const [i, row] of [...rows].entries()) this.#outcomes.set(row, read[i]!);
  }

  async #prompt(row: TaskRow, examples: readonly TaskRow[]): Promise<Prompt> {
    const { task, writer } = this;
    const before = [
      ...writer.system(this.#description(row), task.fewshotDelimiter),
      ...examples.flatMap(example => this.#exampleTurns(example)),
    ];
    const contextOf = (content: string) =>
      writer.write([...before, { role: 'user', content, delimiter: '' }]);
    const text = this.#text(row);
    const target = this.#target(row);
    if (task.outputType === 'generate_until') return this.#generation(row, contextOf);
    if (task.outputType === 'loglikelihood') {
      const context = await contextOf(this.#string(text, 'doc_to_text', row));
      return { row, requests: [{ context, continuation: String(target) }], choices: [], gold: [] };
    }
    const choices = this.#choices(row);
    const delimiter = writer.beforeChoice(task.targetDelimiter);
    if (this.#multipleInput) {
      const continuation = delimiter + String(target);
      const contexts = await Promise.all(choices.map(contextOf));
      return {
        row,
        requests: contexts.map(context => ({ context, continuation })),
        choices,
        gold: this.#gold(text, choices, 'doc_to_text', row),
      };
    }
    const context = await contextOf(this.#string(text, 'doc_to_text', row));
    return {
      row,
      requests: choices.map(choice => ({ context, continuation: delimiter + choice })),
      choices,
      gold: this.#gold(target, choices, 'doc_to_target', row),
    };
  }

  async #generation(row: TaskRow, contextOf: (question: string) => Promise<string>): Promise<Prompt> {
    const { task, writer } = this;
    const context = await contextOf(this.#string(this.#text(row), 'doc_to_text', row));
    const target = this.#target(row);
    const choices = task.docToChoice ? this.#choices(row) : undefined;
    const targets = choices
      ? this.#gold(target, choices, 'doc_to_target', row).map(index => choices[index]!)
      : this.#spelled(Array.isArray(target) ? target : [target], row);
    const continuation = writer.beforeChoice(task.targetDelimiter) + String(targets[0] ?? '');
    return { row, requests: [{ context, continuation }], choices: [], gold: [], targets };
  }

  #description(row: TaskRow): string {
    return this.task.description ? String(this.#value('description', row)) : '';
  }

  #exampleTurns(row: TaskRow): Turn[] {
    const { task } = this;
    const text = this.#text(row);
    const choices = task.docToChoice ? this.#choices(row) : undefined;
    const content = this.#multipleInput
      ? choices![this.#gold(text, choices!, 'doc_to_text', row)[0]!]!
      : this.#string(text, 'doc_to_text', row);
    const target = this.#target(row);
    if (target === '') return [{ role: 'user', content, delimiter: '' }];
    const [first] = Array.isArray(target) ? target : [target];
    const byIndex = !this.#multipleInput && choices && typeof first === 'number';
    const answer = byIndex
      ? choices[this.#gold(first, choices, 'doc_to_target', row)[0]!]!
      : this.#string(first, 'doc_to_target', row);
    return [
      { role: 'user', content, delimiter: task.targetDelimiter },
      { role: 'assistant', content: answer, delimiter: task.fewshotDelimiter },
    ];
  }

  /** Numbers of a field as the file spells them: Python prints 5.0 so. */
  #spelled(targets: readonly unknown[], { exact }: TaskRow): readonly unknown[] {
    const { docToTarget: field } = this.task;
    const given = field.kind === 'template' ? entryOf(exact, field.template) : undefined;
    if (given === undefined) return targets;
    return Array.isArray(given) ? given : [given];
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

/** Targets that a template printed as a list in brackets, as lists. */
async function withLists(task: Task, outcomes: readonly Readonly<Record<string, Outcome>>[]) {
  const bracketed = (outcome: Outcome | undefined): string | undefined => {
    const value = outcome && 'value' in outcome ? outcome.value : undefined;
    return typeof value === 'string' && value.startsWith('[') && value.endsWith(']') ? value : undefined;
  };
  const texts = new Set(outcomes.flatMap(({ doc_to_target: target }) => bracketed(target) ?? []));
  if (texts.size === 0) return outcomes;
  const lists = await readLists(task.path, [...texts]);
  const listOf = new Map([...texts].map((text, i) => [text, lists[i]!]));
  return outcomes.map(outcome => {
    const list = listOf.get(bracketed(outcome.doc_to_target) ?? '');
    return list ? { ...outcome, doc_to_target: { value: list } } : outcome;
  });
}

const shown = (value: unknown): string => JSON.stringify(value)?.slice(0, 80) ?? 'nothing';
