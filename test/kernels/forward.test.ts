import { test } from 'uvu';
import { elementwiseCases } from '../../kernels/cases/elementwise.js';
import { embeddingCases } from '../../kernels/cases/embedding.js';
import { generatedCases } from '../../kernels/cases/generated.js';
import { normCases } from '../../kernels/cases/norms.js';
import { testCases } from './runCases.js';

testCases([...embeddingCases, ...normCases, ...elementwiseCases, ...generatedCases]);
test.run();
