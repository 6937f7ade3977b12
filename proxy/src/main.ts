import { configArgument, reloadable, runService } from '@sepia/base/process';
import { checkProxy, createProxy, loadProxyConfig, RELOADED } from './index.ts';

await runService('proxy', async () => {
  const file = configArgument('proxy');
  return await reloadable(
    { load: () => loadProxyConfig(file), check: checkProxy, start: createProxy },
    RELOADED,
  );
});
