/** How far long work has come. */
export interface ProgressEvent {
  /** The work in a word or two: "load", "evaluate". */
  readonly phase: string;
  readonly done: number;
  /** 0 if it is unknown. */
  readonly total: number;
  /** What `done` and `total` count: "tokens", "bytes", "layers". */
  readonly unit: string;
  /** More about the state, in a few words: "loss 0.0213". */
  readonly detail?: string;
  /** The current step of the whole work, counted from 1, and the number of steps, if that is known. */
  readonly step?: { readonly index: number; readonly of: number };
}

/** Receives progress events. It is called often, so it must be cheap; an error that it throws ends the work. */
export type Progress = (event: ProgressEvent) => void;
