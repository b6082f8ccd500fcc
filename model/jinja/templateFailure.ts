/** Why a template gave no text: it is no Jinja, it failed with the values it was given, or it took too much. */
export type FailureReason = 'syntax' | 'render' | 'time' | 'memory' | 'recursion';

const words: Readonly<Partial<Record<FailureReason, string>>> = {
  time: 'it does not end within 5 seconds',
  memory: 'it takes more than 256 MB of memory, or writes more than 16 million characters',
  recursion: 'it calls itself, or is nested, too often',
};

/** A failure of a template; which file it is from, the caller knows. */
export class TemplateFailure extends Error {
  /** @param line of the template, counted from 1. */
  constructor(
    readonly reason: FailureReason,
    message = '',
    line: number | null = null,
  ) {
    super(`${words[reason] ?? message}${line === null ? '' : ` (line ${line} of the template)`}`);
  }
}
