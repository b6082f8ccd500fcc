/** How far long work has come. */
export interface ProgressEvent {
  /** The work in a word or two: "load", "evaluate". */
  readonly phase: string;
  readonly done: number;
  /** 0 if it is unknown. An event with 0 of 0 says only that its step has begun or ended. */
  readonly total: number;
  /** What `done` and `total` count: "tokens", "bytes", "layers". */
  readonly unit: string;
  /** More about the state, in a few words: "loss 0.0213". */
  readonly detail?: string;
  /** The current step of the whole work, if that is known. */
  readonly step?: ProgressStep;
}

/** A step of longer work. */
export interface ProgressStep {
  /** Counted from 1. */
  readonly index: number;
  readonly of: number;
  /** What the step does: "select". Phases within it are its parts. */
  readonly name?: string;
  /** Whether it is complete. */
  readonly done?: true;
  /** Expected seconds until the whole work is done. */
  readonly secondsLeft?: number;
}

/** Receives progress events. It is called often, so it must be cheap; an error that it throws ends the work. */
export type Progress = (event: ProgressEvent) => void;
