export type { TokenRequest } from './encodeRequest.js';
export {
  evaluateTask,
  type Metrics,
  type PreparedTask,
  type PrepareOptions,
  prepareTask,
  type TaskResult,
  type TaskSample,
  type TaskSource,
} from './evaluateTask.js';
export { builtInTasks, type FindOptions, findTasks } from './findTasks.js';
export type { Prompt, TextRequest } from './prompts.js';
export { type Answer, RequestCache } from './requestCache.js';
export { type ScoreOptions, type Scores, scoreRequests } from './scoreRequests.js';
export { type Field, type MetricName, readTaskFile, type Task } from './taskFile.js';
export type { TaskRow } from './taskRows.js';
