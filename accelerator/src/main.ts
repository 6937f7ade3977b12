import { configArgument, runService } from '@sepia/base/process';
import { createAccelerator, loadAcceleratorConfig } from './index.ts';

await runService(
  'accelerator',
  async () =>
    await createAccelerator(loadAcceleratorConfig(configArgument('accelerator')), { env: process.env }),
);
