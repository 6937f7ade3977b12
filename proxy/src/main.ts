import { configArgument, reloadable, runService } from '@sepia/base/process';
import { createProxy, loadProxyConfig, RELOADED } from './index.ts';

await runService('proxy', async () => {
  const file = configArgument('proxy');
  return await reloadable(() => loadProxyConfig(file), createProxy, RELOADED);
});
