import { CodedError } from '@sepia/base/errors';
import { startAdmin } from '@sepia/http/admin';
import { HttpListener } from '@sepia/http/listener';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import type { Content, Names } from './content.ts';
import { originGauges } from './gauges.ts';
import type { Ground } from './ground.ts';
import { originApp } from './http/origin-app.ts';
import { originRouter } from './http/origin-router.ts';
import type { Outside } from './outside.ts';
import type { Keeping, Pushes } from './pushes.ts';
import { originStatus } from './status.ts';

/** All parts of an origin. */
export type OriginParts = Ground & Outside & Names & Content & Pushes & Keeping;

/** Last: the port for members and the admin port. They serve when this resolves. @throws {CodedError} `START_FAILED` */
export async function openDoors(parts: OriginParts) {
  const { given, metrics, clock, nowMs, standing, ending, room, recordEngine, encryption } = parts;
  const { health, ring, recovery, scrubber, store, writeBack, writeBehind } = parts;
  const { config, cluster, clusterKey, selfId, log, stops } = given;
  const { deadlines } = config;
  const stopping = new AbortController();
  originGauges(metrics, { ...parts, cluster });
  const app = originApp({
    ...{ clusterKey, selfId, log, metrics, clock, oldSignatures: config['old-signatures'] },
    ...{ cluster, standing, ring, recordsIn: config.records.engine },
    router: originRouter({
      ...parts,
      ...parts.recovery,
      ...parts.gc,
      ...{ cluster, owedTags: parts.watch.owedTags, stallMs: deadlines['body-stall'] },
      status: async () => await originStatus({ ...parts, cluster, selfId }),
      reach: async (epoch: number) => await ring.reach(epoch),
      stopping: stopping.signal,
      onBytes: (bytes) => parts.servedBytes.inc(bytes),
    }),
  });
  const tls = listenerTls({ log, nowMs }, { key: 'listen', encryption });
  const listener = await HttpListener.start(app.callback(), config.listen, 'listen', { tls });
  stops.push('listener', async () => await listener.stop(deadlines.drain));
  const notReady = (): string | undefined =>
    stopping.signal.aborted ? 'stopping' : (recovery.startUp.pending ?? recordEngine.away);
  const admin = await startAdmin(
    {
      ...{ log, metrics, app, notReady, clock },
      warnings: () => [
        ...[...ring.warnings, ...recovery.warnings, ...scrubber.warnings, ...room.warnings],
        ...[...writeBack.warnings, ...writeBehind.warnings, ...recordEngine.warnings, ...store.warnings],
      ],
      debug: { suspects: () => health.suspects },
    },
    config['admin-listen'],
  );
  stops.push('admin', async () => await admin.stop(deadlines.drain));
  stops.push('closing', async () => {
    ending.word = await recovery.tellClosing();
  });
  stops.push('waits', () => stopping.abort(new CodedError('DRAINING')));
  return { listener, admin };
}
