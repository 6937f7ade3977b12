import type { Snapshot } from './table.ts';

/** A mount that containerd makes. */
export interface Mount {
  readonly type: string;
  readonly source: string;
  readonly options: readonly string[];
}

/**
 * How a snapshot is mounted: bound where one folder is all of it, else an overlay.
 * @param below what it stands on, the nearest first
 * @param overlay further options of an overlay
 */
export function mountsOf(
  snapshot: Snapshot,
  below: readonly Snapshot[],
  folder: (id: number, part: 'fs' | 'work') => string,
  overlay: readonly string[],
): Mount[] {
  const bind = (id: number, mode: 'ro' | 'rw'): Mount[] => [
    { type: 'bind', source: folder(id, 'fs'), options: [mode, 'rbind'] },
  ];
  const isView = snapshot.kind === 'view';
  if (below.length === 0) return bind(snapshot.id, isView ? 'ro' : 'rw');
  if (isView && below.length === 1) return bind(below[0]!.id, 'ro');
  const lower = `lowerdir=${below.map(({ id }) => folder(id, 'fs')).join(':')}`;
  const upper = isView
    ? []
    : [`workdir=${folder(snapshot.id, 'work')}`, `upperdir=${folder(snapshot.id, 'fs')}`];
  return [{ type: 'overlay', source: 'overlay', options: [...overlay, ...upper, lower] }];
}
