import { test } from 'uvu';
import { attentionBackwardCases } from '../../kernels/cases/attentionBackward.js';
import { backwardCases } from '../../kernels/cases/backward.js';
import { vocabularyLossCases } from '../../kernels/cases/vocabularyLoss.js';
import { testCases } from './runCases.js';

testCases([...backwardCases, ...attentionBackwardCases, ...vocabularyLossCases]);

test.run();
