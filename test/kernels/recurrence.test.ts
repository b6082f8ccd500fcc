import { test } from 'uvu';
import { recurrenceCases } from '../../kernels/cases/recurrence.js';
import { testCases } from './runCases.js';

testCases(recurrenceCases);
test.run();
