/** Steps of gpu-check that go wrong, for gpuCheck.test.ts: what to do is in the input's `adapter`. */
import { spawn } from 'node:child_process';
import type { StepEvent, StepInput } from '../../bench/gpuCheck/report.js';

const send = (event: StepEvent) => process.send!(event);

process.once('message', async message => {
  const { adapter } = message as StepInput;
  send({ at: 'the first piece' });
  send({ metric: { name: 'rate', value: 7, unit: 'GB/s', better: 'higher' } });
  send({ finding: { level: 'note', text: 'so far' } });
  switch (adapter) {
    case 'crash':
      process.stderr.write('the driver says goodbye\n');
      process.kill(process.pid, 'SIGSEGV');
      break;
    case 'exit':
      process.exit(3);
      break;
    case 'hang': {
      // With a process of its own, which must not survive it.
      const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'], { stdio: 'ignore' });
      send({ detail: ['pid', child.pid] });
      // The main thread is busy for ever, as in a driver that does not come back.
      setTimeout(() => {
        for (;;);
      }, 50);
      break;
    }
    case 'slow':
      // Never done, but it says what it does.
      setInterval(() => send({ at: 'another piece' }), 100);
      break;
    case 'refuse':
      send({ refused: { message: 'there is no GPU to check', fix: 'Allow a software adapter.' } });
      process.send!({ end: 'failed' }, () => process.disconnect());
      break;
    default:
      process.send!({ end: 'done' }, () => process.disconnect());
  }
});
