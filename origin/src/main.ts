import { configArgument, runService } from '@sepia/base/process';
import { createOrigin, loadOriginConfig } from './index.ts';

const acceptLoss = process.argv.includes('--accept-loss');

await runService(
  'origin',
  async () =>
    await createOrigin(loadOriginConfig(configArgument('origin')), { acceptLoss, env: process.env }),
);
