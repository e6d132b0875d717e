// Questions about regions' members, as an embedder or client asks them.

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
}
