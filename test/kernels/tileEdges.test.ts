import { test } from 'uvu';
import { matmulCase } from '../../kernels/cases/matmul.js';
import { testCases } from './runCases.js';

// Extents one below and one above those of every tile (8 to 128 rows or columns, 8 to 32 along k). NT and TN stage both
// operands in both orders. Takes 10 s on lavapipe once the programs of matmul.test are compiled, 30 s on SwiftShader.
const around = (extent: number) => [extent - 1, extent + 1] as const;
const [tiles, steps] = [
  [8, 16, 32, 64, 128],
  [8, 16, 32],
];

testCases(
  tiles.flatMap((tile, i) => {
    const [below, above] = around(tile);
    const [shorter, longer] = around(steps[i % steps.length]!);
    return [
      matmulCase({ form: 'NT', m: below, n: above, k: longer }),
      matmulCase({ form: 'NT', m: above, n: below, k: shorter }),
      matmulCase({ form: 'TN', m: below, n: above, k: shorter }),
      matmulCase({ form: 'TN', m: above, n: below, k: longer }),
    ];
  }),
);

test.run();
