// Members of regions, from those that they have to those that they are to have, with all steps told.
//
//   every region of the cluster, or one ──▶ asked of its leader, again and again until it is done: a region's
//   next leader does not know what the last one was asked for ──▶ looked again whether there are new regions

public import UkehiBase
internal import UkehiEnvironment
public import UkehiNode

/// What is told while members change.
public enum MemberEvent: Sendable {
    /// The region's leader has begun a step.
    case step(RegionID, String)
    /// It waits, for this reason.
    case waiting(RegionID, String)
    case done(MemberReport)
}

/// Why members are not what they were to be. What was done stays done.
public enum MemberChangeError: Error, Hashable, Sendable {
    /// It would not be safe, or not possible, and is not done: change what is asked for.
    case refused(RegionID, String)
    /// It was not done in time, for this reason; the region's leader goes on with it as long as it leads. Ask
    /// again to go on, or ask for the members that there are to have it stop.
    case notInTime(RegionID, String)
    /// Of these ranges no node that answers has a region; all others are done.
    case unknownRanges([KeyRange], silent: [NodeAddress])
    /// A node did not answer, or refused to.
    case failed(RequestError)
}

extension Client {
    /// The whole cluster: what all of its nodes know together. One node alone may not know of regions that it
    /// does not hold.
    public func view(timeout: Duration = defaultTimeout) async throws(RequestError) -> ClusterView {
        try await engine.view(timeout: timeout)
    }

    /// Has exactly these nodes hold a region, or, with nil, every region of the cluster, the system region
    /// included; those, too, that come to be by division meanwhile.
    ///
    /// Declarative: asked again it goes on, and what is so already stays so. Returns when it is so; a change of
    /// a region is made one safe step at a time, each of which is told.
    ///
    /// - Throws: ``MemberChangeError``; its cases say what to do.
    public func setMembers(
        _ nodes: [NodeID], of region: RegionID? = nil, timeout: Duration = .seconds(120),
        told: (MemberEvent) -> Void = { _ in }
    ) async throws(MemberChangeError) {
        try await changeMembers(of: region, timeout: timeout, told: told) { _ in nodes }
    }

    /// The same, with nodes that depend on those that hold the region, voters alone.
    package func changeMembers(
        of region: RegionID?, timeout: Duration, patience: Duration = defaultTimeout,
        told: (MemberEvent) -> Void, wanted: ([NodeID]) -> [NodeID]
    ) async throws(MemberChangeError) {
        let end = engine.deadline(timeout)
        var done: Set<RegionID> = []
        while true {
            var unknown: [KeyRange] = []
            var silent: [NodeAddress] = []
            var open = region.map { [$0] } ?? []
            if region == nil {
                let view: ClusterView = try await failing { () throws(RequestError) in
                    try await self.view(timeout: patience)
                }
                (unknown, silent) = (view.unknown, view.silent)
                open = [.system] + view.topology.regions.map(\.region).sorted()
            }
            open.removeAll { done.contains($0) }
            for id in open {
                try await change(id, until: end, patience, told, wanted)
                done.insert(id)
            }
            // Whatever came to be meanwhile is found by looking once more.
            guard region != nil || open.isEmpty else { continue }
            guard unknown.isEmpty else { throw .unknownRanges(unknown, silent: silent) }
            return
        }
    }

    private func change(
        _ id: RegionID, until end: MonotonicTime, _ patience: Duration,
        _ told: (MemberEvent) -> Void, _ wanted: ([NodeID]) -> [NodeID]
    ) async throws(MemberChangeError) {
        let before: MemberReport = try await failing { () throws(RequestError) in
            try await members(of: id, timeout: patience)
        }
        let nodes = wanted(before.members.filter { $0.roles.contains(.voter) }.map(\.node))
        // Of which leader's steps how many were told: the next one begins anew.
        var leader = before.leader
        var count = 0
        var reason = ""
        while true {
            let report: MemberReport = try await failing { () throws(RequestError) in
                try await members(of: id, .set(nodes), timeout: patience)
            }
            if report.leader != leader { (leader, count) = (report.leader, 0) }
            for step in report.steps.dropFirst(count) { told(.step(id, step)) }
            count = report.steps.count
            switch report.progress {
            case .done: return told(.done(report))
            case .refused: throw .refused(id, report.reason)
            case .waiting where report.reason != reason: told(.waiting(id, report.reason))
            case .none, .working, .waiting: break
            }
            reason = report.progress == .waiting ? report.reason : ""
            guard engine.nanoseconds(until: end) > 0, !Task.isCancelled else {
                throw .notInTime(id, reason.isEmpty ? "it is under way" : reason)
            }
            try? await Task.sleep(for: .milliseconds(100))
        }
    }
}

private func failing<R>(
    _ body: () async throws(RequestError) -> R
) async throws(MemberChangeError) -> R {
    do throws(RequestError) {
        return try await body()
    } catch {
        throw .failed(error)
    }
}
