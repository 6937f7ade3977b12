import { resolve } from 'node:path';
import { CodedError, isCoded } from '@sepia/base/errors';
import { runService } from '@sepia/base/process';
import { checkFolders } from '@sepia/store/make-folders';
import { USUAL_CLUSTER_FILE } from './cluster-file.ts';
import { compileWhereNew } from './compile.ts';
import { clusterPaths, keptUpstreams, type UpPolicies } from './files.ts';
import { whatNext } from './hints.ts';
import type { ClusterShape } from './plan.ts';
import { StartView } from './start-view.ts';
import { Supervisor } from './supervisor.ts';
import { type UpstreamOption, upstreamsFor } from './upstream-option.ts';

export interface UpOptions {
  readonly data: string;
  readonly shape: ClusterShape;
  readonly upstreams: readonly UpstreamOption[];
  readonly restart: boolean;
  readonly isLazy: boolean;
  readonly accelerates: boolean;
  readonly preheat: boolean;
  readonly policies: UpPolicies;
  /** `embedded` or the address of a PostgreSQL; left out: as at the last start. */
  readonly records?: string;
  /** Origins count with the records that are here. */
  readonly acceptLoss: boolean;
  readonly json: boolean;
}

const EXIT_REFUSED = 2;

/** `sepia up`: runs a cluster until SIGTERM or SIGINT; with `json` its description is the only thing on standard output. */
export async function runUp(options: UpOptions): Promise<void> {
  const out = options.json ? process.stderr : process.stdout;
  await runService('up', async () => {
    const root = resolve(options.data);
    checkFolders(root, '--data');
    const upstreams = upstreamsFor(options.upstreams, keptUpstreams(clusterPaths(root)));
    let view: StartView | undefined;
    const supervisor = new Supervisor(
      { onEvent: (event) => view?.onEvent(event) },
      {
        root,
        shape: options.shape,
        upstreams,
        restart: options.restart,
        isLazy: options.isLazy,
        accelerates: options.accelerates,
        preheat: options.preheat,
        acceptLoss: options.acceptLoss,
        policies: options.policies,
        ...(options.records === undefined ? {} : { records: options.records }),
      },
    );
    view = new StartView(supervisor.members, out);
    void start(supervisor, view, options, out);
    return supervisor;
  });
}

async function start(
  supervisor: Supervisor,
  view: StartView,
  options: UpOptions,
  out: NodeJS.WriteStream,
): Promise<void> {
  try {
    await supervisor.claim();
    out.write(`Starting ${supervisor.members.length} members in ${supervisor.paths.root}\n`);
    await compileWhereNew(supervisor.members);
    const cluster = await supervisor.start();
    view.started();
    if (options.json) process.stdout.write(`${JSON.stringify(cluster)}\n`);
    else out.write(`${whatNext(cluster, supervisor.paths.clusterJson, resolve(USUAL_CLUSTER_FILE))}\n`);
  } catch (error) {
    view.started();
    if (isCoded(error, 'DRAINING')) return;
    await supervisor.stop();
    const text = isCoded(error) ? `${error.code}: ${error.message}` : String((error as Error).stack ?? error);
    process.stderr.write(`sepia up: ${text}\n`);
    process.exit(error instanceof CodedError ? EXIT_REFUSED : 1);
  }
}
