import { configArgument, reloadable, runService } from '@sepia/base/process';
import { createAccelerator, loadAcceleratorConfig, RELOADED } from './index.ts';

await runService('accelerator', async () => {
  const file = configArgument('accelerator');
  const start: typeof createAccelerator = async (config) =>
    await createAccelerator(config, { env: process.env });
  return await reloadable(() => loadAcceleratorConfig(file), start, RELOADED);
});
