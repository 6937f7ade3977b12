import { configArgument, runService } from '@sepia/base/process';
import { createOrigin, loadOriginConfig } from './index.ts';

await runService(
  'origin',
  async () => await createOrigin(loadOriginConfig(configArgument('origin')), { env: process.env }),
);
