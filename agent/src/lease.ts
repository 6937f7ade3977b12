import { arch } from 'node:os';
import { chance } from '@sepia/base/clock/chance';
import type { Digest } from '@sepia/base/digest';
import { Reach } from '@sepia/base/reach';
import { PROTOCOL_VERSION } from '@sepia/http/sign';
import { readSmall } from './blobs/read-small.ts';
import { PATIENCE_MS } from './deadlines.ts';
import { openSwarms } from './downloads/meet-strangers.ts';
import type { Ground, Outside } from './ground.ts';
import type { Holdings } from './holdings.ts';
import { type LazyImages, MAX_CONFIG_BYTES } from './lazy/lazy-images.ts';
import { CommandLog } from './node/commands/core/command-log.ts';
import { prefetch } from './node/commands/prefetch.ts';
import { purge } from './node/commands/purge.ts';
import { CommandRunner } from './node/commands/runner.ts';
import { Heartbeat } from './node/heartbeat.ts';

/** What `/readyz` says of the trackers. */
interface Lease {
  /** Whether they can be reached. */
  readonly reach: Reach;
  /** Lines for `/readyz` of what they told. */
  readonly warnings: () => string[];
}

/** Starts the heartbeat, which tells the trackers what is here, and the runner of their commands. */
export function startLease(
  ground: Ground,
  outside: Outside,
  holdings: Holdings,
  lazy: Pick<LazyImages, 'ahead'>,
): Lease {
  const { config, store, tags, nodeId, log, nowMs, stops } = ground;
  const { trackers, gate } = outside;
  const { engine, addresses, book, hints, seeds, links, blobs, manifests } = holdings;
  const architecture = arch() === 'x64' ? 'amd64' : arch();
  const commandLog = new CommandLog();
  const ahead: Parameters<typeof prefetch>[0]['ahead'] = async (images, signal) => {
    const read: Parameters<typeof lazy.ahead>[1] = async (config, until) =>
      await readSmall(blobs, config, MAX_CONFIG_BYTES, until);
    await lazy.ahead(images, read, signal);
  };
  const commands = new CommandRunner({
    commandLog,
    log,
    prefetch: (detail, onProgress, signal) =>
      prefetch({ manifests, blobs, store, ahead, architecture }, detail, onProgress, signal),
    purge: (detail) => purge({ store, seeds, hints, tags, log }, detail),
  });
  const reach = new Reach({ whom: 'trackers', patienceMs: PATIENCE_MS });
  const heartbeat = new Heartbeat({
    trackers,
    book,
    commandLog,
    commands,
    nodeId,
    zone: config.zone,
    addresses,
    log,
    self: () => ({
      version: PROTOCOL_VERSION,
      uptimeSeconds: Math.round(process.uptime()),
      usedBytes: store.usage(),
    }),
    swarms: () => blobs.figures(),
    trackerIdsOf: (digest) => trackers.trackerIds(digest as Digest),
    chance,
    onAnswer: () => gate.note(true, nowMs()),
    reach,
    onStrangers: (told) => openSwarms(engine, told),
    onRevoked: async (revoked) => await links.drop(revoked),
  });
  commands.onEnd = () => heartbeat.pokeAll();
  blobs.onStart = (digest) => heartbeat.poke(digest);
  stops.push('commands', () => commands.stop());
  heartbeat.start();
  stops.push('heartbeat', () => heartbeat.stop());
  return { reach, warnings: () => heartbeat.warnings };
}
