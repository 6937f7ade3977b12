import * as shipped from '@sepia/records/register/register';

export * from '@sepia/records/register/register';

/** An acceptor that promises and does not keep it. */
export const acceptorStep: typeof shipped.acceptorStep = (state, request) => {
  const { promised } = shipped.EMPTY_ACCEPTOR;
  const { next, reply } = shipped.acceptorStep(
    request.type === 'accept' ? { ...state, promised } : state,
    request,
  );
  return { next: request.type === 'prepare' ? state : next, reply };
};
