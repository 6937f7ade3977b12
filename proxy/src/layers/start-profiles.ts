import type { Digest } from '@sepia/base/digest';
import { START_PROFILE, type StartProfile } from '@sepia/cluster/api/start-profile';
import type { Registers } from '@sepia/records/jobs/job-queue';
import { z } from 'zod';

/** Profiles that are kept of a repository: those of the newest images that were recorded. */
const MAX_PROFILES = 2;
/** What a later version says of a profile is kept (ADR 12). */
const RECORD = z.object({ v: z.literal(1), profiles: z.array(START_PROFILE.loose()).max(MAX_PROFILES) });

/** A repository of an upstream. */
interface Repository {
  readonly upstream: string;
  readonly repository: string;
}

/**
 * What starts of images read, as nodes recorded it: one register for each repository, on a quorum of origins. Images of a
 * repository mostly start alike: one that was never recorded gets what the newest of its neighbours read.
 */
export class StartProfiles {
  readonly #deps: { readonly registers: Registers; readonly nowMs: () => number };

  constructor(deps: { readonly registers: Registers; readonly nowMs: () => number }) {
    this.#deps = deps;
  }

  /** The profile of an image, else the newest of its repository. @throws `QUORUM_LOST`, `CONFLICT` */
  async get(name: Repository, manifest: Digest): Promise<StartProfile | undefined> {
    const profiles = profilesIn(await this.#deps.registers.read<unknown>(keyOf(name)));
    return profiles.find((one) => one.manifest === manifest) ?? profiles[0];
  }

  /** Keeps a profile in place of the one that the image has. @throws `QUORUM_LOST`, `CONFLICT` */
  async put(name: Repository, told: Omit<StartProfile, 'atMs'>): Promise<void> {
    const profile = { ...told, atMs: this.#deps.nowMs() };
    await this.#deps.registers.change<unknown>(keyOf(name), (current) => {
      const others = profilesIn(current).filter((one) => one.manifest !== profile.manifest);
      return { v: 1, profiles: [profile, ...others].slice(0, MAX_PROFILES) };
    });
  }
}

/** What cannot be read is none: a hint is made anew. */
function profilesIn(value: unknown): readonly StartProfile[] {
  const parsed = RECORD.safeParse(value);
  return parsed.success ? parsed.data.profiles : [];
}

function keyOf({ upstream, repository }: Repository): string {
  return `profile\0${upstream}\0${repository}`;
}
