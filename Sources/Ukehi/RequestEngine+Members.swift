// Questions about regions, as an embedder or client asks them.

internal import Synchronization
internal import UkehiBase
internal import UkehiNode

extension RequestEngine {
    /// Asks the leader of a region.
    func members(
        of region: RegionID, _ ask: MemberRequest, timeout: Duration
    ) async throws(RequestError) -> MemberReport {
        let request = EngineRequest(
            operation: .members(region, ask), key: Bytes(), isWrite: false)
        guard case .members(let report) = try await perform(request, until: deadline(timeout))
        else { throw .rejected(.unavailable("the node answered something else")) }
        return report
    }

    /// Has the region that holds the first of these keys divided at all of them.
    func split(at keys: [Bytes], timeout: Duration) async throws(RequestError) -> [RegionInfo] {
        guard let first = keys.first else {
            throw .rejected(.invalid("No key says where to divide."))
        }
        let request = EngineRequest(operation: .split(keys), key: first, isWrite: true)
        guard case .regions(let regions) = try await perform(request, until: deadline(timeout))
        else { throw .rejected(.unavailable("the node answered something else")) }
        cache.withLock { cache in for info in regions { cache.insert(info) } }
        return regions
    }
}
