import { COMPRESSION_LEVELS } from '@sepia/oci/compression-levels';
import type { ResultForm } from './image-index.ts';
import type { ConvertFormat } from './layer-job.ts';

interface Wanted {
  readonly format: ConvertFormat;
  readonly level?: number | undefined;
  readonly platforms?: readonly string[] | undefined;
  readonly form?: ResultForm | undefined;
}

/**
 * What a result says of the options that made it, as `level=9 platforms=linux/amd64,linux/arm64`; undefined where all is as
 * usual, and for options that no rule of a cluster has.
 */
export function optionsMark({ format, level, platforms, form }: Wanted): string | undefined {
  const said = [
    ...(level === undefined || level === COMPRESSION_LEVELS[format].usual ? [] : [`level=${level}`]),
    ...(platforms === undefined ? [] : [`platforms=${[...new Set(platforms)].sort().join(',')}`]),
    ...(form === 'image-index' ? ['form=image-index'] : []),
  ];
  return said.length === 0 ? undefined : said.join(' ');
}
