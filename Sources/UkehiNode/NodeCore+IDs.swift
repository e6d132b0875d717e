// Ids of regions and peers: given out once each by the system region, kept in reserve for divisions, so that
// these do not wait for another region's write (RULES 17).
//
//   reserve has enough ──▶ taken at once; low: more are asked for behind it
//   it has not         ──▶ asked for, of this node's system region or of whoever leads it
//
// Invariants
//   - What is in reserve was given to this life of this node, by an allocator of the generation that the node
//     knows: one that was lost with a quorum may give the same ids again (RULES 74). Ids in reserve are lost
//     with the process, used by nobody.
//   - Whatever comes later has a higher id than what it comes behind: a region than the one that it came out
//     of, a peer than all that its region ever had. So only a new region's ids come from the reserve, and only
//     where they are above the old one's; a new peer's never do.

import Synchronization
package import UkehiBase
import UkehiRaft

/// Ids that are this node's to use.
struct IDReserve {
    private var free: Range<UInt64> = 0..<0
    private var generation: UInt64 = 0
    /// More are under way.
    var isAsked = false

    var count: Int { free.count }

    mutating func take(_ wanted: Int, above region: RegionID, generation current: UInt64) -> UInt64?
    {
        guard generation == current, free.count >= wanted, free.lowerBound > region.rawValue
        else { return nil }
        let first = free.lowerBound
        free = first + UInt64(wanted)..<free.upperBound
        return first
    }

    /// Puts what was given aside, unless it is older than what there is.
    mutating func fill(_ ids: Range<UInt64>, generation given: UInt64) {
        guard !ids.isEmpty,
            given > generation
                || (given == generation && ids.lowerBound >= free.upperBound)
        else { return }
        free = ids
        generation = given
    }
}

extension NodeCore {
    /// Requests for ids under way at once; older ones are given up.
    private static let maxIDRequests = 64

    package func allocate(
        _ count: Int, outOf region: RegionID?, _ done: @escaping @Sendable (UInt64?) -> Void
    ) {
        invariant(
            (1...Limits.maxIDsPerRequest).contains(count), "\(count) ids are asked for at once")
        guard let region else { return ask(for: count, done) }
        let (first, generation, refills) = state.withLock { state in
            let generation = state.generation
            let first = state.ids.take(count, above: region, generation: generation)
            let refills =
                first != nil && !state.ids.isAsked
                && state.ids.count < Limits.idsInReserve / 2
            if refills { state.ids.isAsked = true }
            return (first, generation, refills)
        }
        if let first {
            done(first)
            if refills {
                ask(for: Limits.idsInReserve) { [weak self] first in
                    self?.keep(first, 0, Limits.idsInReserve, generation)
                }
            }
            return
        }
        let more = min(Limits.idsInReserve, Limits.maxIDsPerRequest - count)
        ask(for: count + more) { [weak self] first in
            self?.keep(first, count, more, generation)
            done(first)
        }
    }

    /// What was asked for at a generation came, or did not; the first `used` of it are somebody's already.
    private func keep(_ first: UInt64?, _ used: Int, _ more: Int, _ generation: UInt64) {
        state.withLock { state in
            state.ids.isAsked = false
            guard let first, generation == state.generation else { return }
            let start = first + UInt64(used)
            state.ids.fill(start..<start + UInt64(more), generation: generation)
        }
    }

    private func ask(for count: Int, _ done: @escaping @Sendable (UInt64?) -> Void) {
        if isLeader { return allocateIDs(count) { result in done(try? result.get()) } }
        // Whoever is known to lead the system region, or else all who may.
        let (targets, number, dropped) = state.withLock { state in
            state.lastIDRequest += 1
            let number = state.lastIDRequest
            state.idRequests[number] = done
            var dropped: (@Sendable (UInt64?) -> Void)?
            if state.idRequests.count > Self.maxIDRequests, let oldest = state.idRequests.keys.min()
            {
                dropped = state.idRequests.removeValue(forKey: oldest)
            }
            return (state.systemNodes, number, dropped)
        }
        dropped?(nil)
        for target in targets {
            send(.requestIDs, index: UInt64(count), number: number, to: target)
        }
        // Not answered: the one who asked asks again.
        guard !targets.isEmpty else { return taken(number)?(nil) ?? () }
    }

    private func taken(_ number: UInt64) -> (@Sendable (UInt64?) -> Void)? {
        state.withLock { $0.idRequests.removeValue(forKey: number) }
    }

    private func send(
        _ kind: MessageKind, index: UInt64, number: UInt64, reject: Bool = false, to node: NodeID
    ) {
        let message = Message(
            kind: kind, index: LogIndex(index), commit: LogIndex(number), reject: reject)
        transport.send(
            [
                RegionMessage(
                    region: .system, epoch: RegionEpoch(confVersion: 1, version: 1),
                    message: message)
            ], to: node, lane: lane(of: .system))
    }

    func received(idMessage message: Message, from node: NodeID) {
        let number = message.commit.rawValue
        guard message.kind == .requestIDs else {
            taken(number)?(message.reject ? nil : message.index.rawValue)
            return
        }
        // More would be asked for by nobody.
        guard message.index >= LogIndex(1),
            message.index <= LogIndex(UInt64(Limits.maxIDsPerRequest)), isLeader
        else { return }
        allocateIDs(Int(message.index.rawValue)) { [weak self] result in
            guard let self else { return }
            if case .success(let id) = result {
                send(.requestIDsResponse, index: id, number: number, to: node)
            } else {
                send(.requestIDsResponse, index: 0, number: number, reject: true, to: node)
            }
        }
    }
}
