/** A step of long work. */
export interface ProgressEvent {
  /** What is being done, in a word or two: "load", "evaluate". */
  readonly phase: string;
  readonly done: number;
  /** 0 where it is not known. */
  readonly total: number;
  /** What `done` and `total` count: "tokens", "bytes", "layers". */
  readonly unit: string;
  /** How it goes, in a few words: "loss 0.0213". */
  readonly detail?: string;
  /** Which part of the whole work this is, counted from 1, and how many there are, where that is known. */
  readonly step?: { readonly index: number; readonly of: number };
}

/** Called often and cheap to call; what it throws ends the work. */
export type Progress = (event: ProgressEvent) => void;
