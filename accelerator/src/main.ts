import { configArgument, reloadable, runService } from '@sepia/base/process';
import {
  type AcceleratorConfig,
  checkAccelerator,
  createAccelerator,
  loadAcceleratorConfig,
  RELOADED,
} from './index.ts';

await runService('accelerator', async () => {
  const file = configArgument('accelerator');
  const start: typeof createAccelerator = async (config) =>
    await createAccelerator(config, { env: process.env });
  const check = async (config: AcceleratorConfig) => await checkAccelerator(config, process.env);
  return await reloadable({ load: () => loadAcceleratorConfig(file), check, start }, RELOADED);
});
