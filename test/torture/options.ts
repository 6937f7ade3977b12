import { parseArgs } from 'node:util';
import { SABOTAGES, type SabotageName } from './sabotage/names.ts';

const RECORD_ENGINES = ['embedded', 'postgres'] as const;
type RecordEngine = (typeof RECORD_ENGINES)[number];

export interface Options {
  readonly rounds: number;
  readonly seed: number;
  /** How many origins; each number gets its share of the rounds. */
  readonly origins: readonly number[];
  readonly sabotage: SabotageName | undefined;
  readonly json: boolean;
  /** Faults by which a disk is lost, set back or damaged as well; they are the default. */
  readonly disks: boolean;
  /** Where tags and links rest: `postgres` starts a database for each cluster. */
  readonly records: RecordEngine;
  /** Members encrypt what they say to each other, and refuse who does not. */
  readonly encrypted: boolean;
  /** Folder for the clusters' data and logs, kept; undefined: a temporary one. */
  readonly keep: string | undefined;
}

export const USAGE = `usage: npm run torture -- [--rounds N] [--seed S] [--origins 3|7] [--disks on|off] [--records embedded|postgres] [--encryption off|require] [--sabotage NAME] [--json] [--keep DIR]
defaults: --rounds 20, a seed of the clock, both 3 and 7 origins, --disks on (every fault; off leaves out disk-lost, disk-set-back, disk-damaged)
what cannot be done here is left out by name: disk-full wants root, clock-jump wants faketime
sabotages: ${SABOTAGES.join(', ')}`;

/** @throws {TypeError} that says which option is wrong */
export function parseOptions(args: readonly string[], seed: number): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '20' },
      seed: { type: 'string', default: String(seed) },
      origins: { type: 'string' },
      disks: { type: 'string', default: 'on' },
      records: { type: 'string', default: 'embedded' },
      encryption: { type: 'string', default: 'off' },
      sabotage: { type: 'string' },
      json: { type: 'boolean', default: false },
      keep: { type: 'string' },
    },
  });
  const rounds = Number(values.rounds);
  if (!Number.isSafeInteger(rounds) || rounds < 1 || rounds > 100_000)
    throw new TypeError(`--rounds ${values.rounds}: from 1 to 100000`);
  const found = Number(values.seed);
  if (!Number.isSafeInteger(found) || found < 0) throw new TypeError(`--seed ${values.seed}: a whole number`);
  const { origins, sabotage, disks, encryption } = values;
  if (origins !== undefined && origins !== '3' && origins !== '7')
    throw new TypeError(`--origins ${origins}: 3 or 7`);
  if (disks !== 'on' && disks !== 'off') throw new TypeError(`--disks ${disks}: on or off`);
  if (encryption !== 'off' && encryption !== 'require')
    throw new TypeError(`--encryption ${encryption}: off or require`);
  const records = RECORD_ENGINES.find((engine) => engine === values.records);
  if (records === undefined)
    throw new TypeError(`--records ${values.records}: one of ${RECORD_ENGINES.join(', ')}`);
  if (sabotage !== undefined && !SABOTAGES.some((name) => name === sabotage))
    throw new TypeError(`--sabotage ${sabotage}: one of ${SABOTAGES.join(', ')}`);
  return {
    rounds,
    seed: found,
    origins: origins === undefined ? [3, 7] : [Number(origins)],
    sabotage: sabotage as SabotageName | undefined,
    json: values.json,
    disks: disks === 'on',
    records,
    encrypted: encryption === 'require',
    keep: values.keep,
  };
}
