// Which test files are chosen by name, and which begin first. A new file needs no entry here.

/** One list of names under a folder. */
const inFolder = (folder, names) => names.split(' ').map(name => `${folder}/${name}`);

/**
 * `npm run test:fast`, under a minute on two cores: what needs no device; the kernels that every model uses, each case in
 * its default variant alone; the forward pass; and one small prune from end to end.
 */
export const fast = [
  'floors',
  ...inFolder('cli', 'configFile doctor formats optionTypes progressReport pruneSummary terminal userCache'),
  ...inFolder('engine', 'cardMemory device errors profiler selftest'),
  ...inFolder(
    'kernels',
    'attention convert doubleSingle fitting forward matmul preconditions rows solveRidge',
  ),
  ...inFolder('model', 'batch documents evaluate exactJson families generationHealth gguf hub outputFolder'),
  ...inFolder('model', 'pythonLiteral safetensors safetensorsWriter sampler tasks tokenSequences tokenizer'),
  ...inFolder(
    'replaceme',
    'calibration calibrationFaithful dynamicProgram greedyWindows hiddenStates outputsSafe request runFolder',
  ),
  ...inFolder('replaceme', 'prune repairInOrder runJournal'),
];

/** The slowest files, longest first, as .ci/run lists them at its end: begun early, they leave no core idle. */
export const slowest = `
  largeModels shared/smollm2Faithful shared/transformers replaceme/resume shared/lmEval shared/smollm2Cosine shared/smollm2Gguf
  shared/smollm2Refit shared/smollm2 replaceme/families replaceme/memoryPlan shared/llamaCppFamilies kernels/backward kernels/solveSpd
  kernels/matmul kernels/attention newcomer kernels/gram cli/outputs kernels/gatedMatmul cli/main cli/reproducible shared/smollm2Padding
  cli/flags kernels/cholesky replaceme/healing model/ggufFamilies replaceme/streaming shared/smollm2Rivals model/gradients
  replaceme/reportPage cli/badInput cli/evalTasks examples shared/familiesInTransformers lmEvalGolden replaceme/compare
  replaceme/report replaceme/smallBindings kernels/safePath cli/kernelProfile cli/heal shared/cli replaceme/shards package
  replaceme/statistics replaceme/rivalsRepairs model/ggufConvert slurm/slurm replaceme/prune
  model/familiesGolden kernels/solveRidge engine/device model/evaluate replaceme/hiddenStates replaceme/repairInOrder
`
  .trim()
  .split(/\s+/);
