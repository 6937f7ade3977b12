import { configArgument, runService } from '@sepia/base/process';
import { createProxy, loadProxyConfig } from './index.ts';

await runService('proxy', async () => await createProxy(loadProxyConfig(configArgument('proxy'))));
