import type { ConfigReader } from './configReader.js';

/** Classes of transformers that predict the next token; those of image encoders are told apart by their families. */
const generates = /For(CausalLM|ConditionalGeneration|ImageTextToText)$|LMHeadModel$/;

/** Classes whose weights were trained for something else than the next token. */
const otherTask =
  /For(?!CausalLM|ConditionalGeneration|ImageTextToText)[A-Z]\w*$|Classifi|Reward|Rerank|CrossEncoder/;

/** Classifiers of images and the like, whose encoder is read and whose other tensors stay. */
const imageTask = /^(Siglip|ViT|Dinov2|Dinov2WithRegisters)For(ImageClassification|MaskedImageModeling)$/;

function classesOf(config: ConfigReader): string[] {
  const classes = config.get('architectures');
  return (Array.isArray(classes) ? classes : [classes]).filter(name => typeof name === 'string');
}

/** Refuses classifiers, reward models and the like. @throws RmError UNSUPPORTED_FAMILY. */
export function refuseOtherTasks(config: ConfigReader): void {
  const other = classesOf(config).find(name => otherTask.test(name) && !imageTask.test(name));
  if (other === undefined) return;
  throw config.unsupported(
    'architectures',
    `is ${other}, which is no language model: what it says of the next token, and so its perplexity, means nothing`,
    'Give the language model that it was made from. If the weights are those of a language model, correct "architectures".',
  );
}

/** Says of a class that is perhaps no language model what that means; empty for language models and where none is stated. */
export function unknownClass(config: ConfigReader): string[] {
  const unknown = classesOf(config).find(name => !generates.test(name));
  if (unknown === undefined) return [];
  return [
    `${config.path}: "architectures" is ${unknown}, which may be no language model: its perplexity and its answers may mean nothing`,
  ];
}
