/** What stands in a file's place, and how to get the file. */
export interface OtherContent {
  /** Completes a sentence that begins with the file: "is a Git LFS pointer, not the file itself". */
  readonly problem: string;
  readonly fix: string;
}

const lfs: OtherContent = {
  problem: 'is a Git LFS pointer, not the file itself',
  fix: 'Fetch the files behind the pointers: git lfs pull (in the folder), or download the model again.',
};
const page: OtherContent = {
  problem: 'is a web page, not the file itself',
  fix: 'Download the file again; a model behind a licence needs a login (HF_TOKEN).',
};
const zip: OtherContent = {
  problem: 'is a zip archive, perhaps PyTorch weights under another name',
  fix: 'Unpack an archive; convert PyTorch weights: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder).',
};
const compressed: OtherContent = { problem: 'is compressed', fix: 'Unpack it first.' };
const gguf: OtherContent = {
  problem: 'is a GGUF file',
  fix: 'Give it a name that ends in .gguf, and give the path of the file itself.',
};

/** First bytes, as characters, and what they tell. */
const beginnings: readonly (readonly [string, OtherContent])[] = [
  ['version https://git-lfs', lfs],
  ['<!doctype html', page],
  ['<html', page],
  ['PK\x03\x04', zip],
  ['\x1f\x8b', compressed],
  ['\x28\xb5\x2f\xfd', compressed],
  ['\xfd7zXZ', compressed],
  ['BZh', compressed],
  ['GGUF', gguf],
];

/** Recognises by its first characters (of bytes: as latin1) what stands in a file's place; undefined for anything else. */
export function notTheFile(content: string): OtherContent | undefined {
  const beginning = content.slice(0, 200).trimStart().toLowerCase();
  return beginnings.find(([first]) => beginning.startsWith(first.toLowerCase()))?.[1];
}
