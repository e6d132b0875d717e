// To divide a region because somebody asks for it, or its leader decides to (Lane+AutoSplit.swift).
//
//   keys ──▶ each part has a key? (on the read thread) ──▶ ids from the system region ──▶ proposed
//        ──▶ applied: answered with the regions
//
// What is refused was refused before anything was proposed. Ids that come too late are used by nobody
// (RULES 17).

import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

extension Lane {
    /// A client wants the region divided at `keys`.
    func divide(_ region: Region, at keys: [Bytes], _ request: ClientRequest) {
        guard region.isLeader else {
            return reply(.failed(region.notLeader), request.sink, request.tag)
        }
        let waiter = SplitWaiter(client: (request.sink, request.tag))
        do throws(SplitRefusal) {
            try begin(waiter, region, at: keys, .request)
        } catch {
            refuse(error, waiter, region)
        }
    }

    /// Its leader divides the region at `keys`.
    func divide(_ region: Region, at keys: [Bytes], because reason: SplitReason) {
        do throws(SplitRefusal) {
            try begin(SplitWaiter(), region, at: keys, reason)
        } catch {
            hinder(region, because: reason, error)
        }
    }

    private func begin(
        _ waiter: SplitWaiter, _ region: Region, at keys: [Bytes], _ reason: SplitReason
    ) throws(SplitRefusal) {
        guard region.splitWaiter == nil else { throw .pending }
        try checkMayBeDivided(region)
        try region.descriptor.check(keys)
        region.splitAsks += 1
        let ask = region.splitAsks
        var waiter = waiter
        waiter.ask = ask
        waiter.askedTick = ticks
        region.splitWaiter = waiter
        region.splitReason = reason
        decided(region, reason)
        let range = region.descriptor.range
        let id = region.id
        let applier = applier
        let lane = self
        let look: @Sendable () -> Void = {
            let hasEmptyPart = zip([range.lower] + keys, keys + [range.upper]).contains {
                !applier.hasKey(in: KeyRange(lower: $0, upper: $1), of: id)
            }
            guard !hasEmptyPart else {
                return lane.post(.splitRefused(id, ask: ask, .emptyHalf))
            }
            lane.host?.allocate(keys.count * (1 + Limits.maxPeersPerRegion), outOf: id) { first in
                lane.post(
                    first.map { .splitAt(id, ask: ask, keys, firstID: $0) }
                        ?? .splitRefused(id, ask: ask, .noIDs))
            }
        }
        if applier.appliesInline { look() } else { readWorker.run(look) }
    }

    /// The waiter whose command is not proposed yet, if it is still the one of this number.
    private func waiter(_ region: Region, _ ask: UInt64) -> SplitWaiter? {
        region.splitWaiter.flatMap { $0.ask == ask && $0.index == .zero ? $0 : nil }
    }

    /// Ids are there: the command goes into the log.
    func divide(_ id: RegionID, _ ask: UInt64, at keys: [Bytes], firstID: UInt64) {
        guard let region = regions[id], waiter(region, ask) != nil else { return }
        var next = firstID
        func take() -> UInt64 {
            defer { next += 1 }
            return next
        }
        do throws(SplitRefusal) {
            try checkMayBeDivided(region)
            guard region.descriptor.peers.count <= Limits.maxPeersPerRegion else {
                throw .tooMany
            }
            let command = SplitCommand(
                parts: keys.map { end in
                    let child = RegionID(take())
                    let peers = region.descriptor.peers.map { _ in PeerID(take()) }
                    let own = region.descriptor.peers.firstIndex { $0.peer == region.peer } ?? 0
                    return SplitCommand.Part(
                        region: child, end: end, leader: peers[own], peers: peers)
                })
            let position = try propose(command, in: id)
            region.splitWaiter?.index = position.index
            region.splitWaiter?.term = position.term
        } catch {
            splitRefused(id, ask, error)
        }
    }

    /// It comes to nothing, before anything was proposed.
    func splitRefused(_ id: RegionID, _ ask: UInt64, _ reason: SplitRefusal) {
        guard let region = regions[id], let waiter = waiter(region, ask) else { return }
        region.splitWaiter = nil
        region.ownSplit = nil
        refuse(reason, waiter, region)
        region.splitReason = .request
        flushSinks()
    }

    /// An answer with ids may be lost: whoever waits longer than that is told so.
    func loseSplitPatience(_ region: Region) {
        guard let waiter = region.splitWaiter, waiter.index == .zero,
            ticks >= waiter.askedTick + Limits.ticksPerInquiry
        else { return }
        splitRefused(region.id, waiter.ask, .noIDs)
    }

    private func refuse(_ reason: SplitRefusal, _ waiter: SplitWaiter, _ region: Region) {
        guard let client = waiter.client else {
            return hinder(region, because: region.splitReason, reason)
        }
        let answer: RequestError =
            reason == .notLeader ? region.notLeader : .rejected(.notSplit(reason))
        reply(.failed(answer), client.sink, client.tag)
    }

    /// An entry was applied that somebody waits for: it has divided the region, or another leader's entry
    /// or one of another epoch stands there.
    func answerSplit(_ region: Region, at index: LogIndex, term: Term, divided: Bool) {
        guard let waiter = region.splitWaiter, waiter.index > .zero, waiter.index <= index
        else { return }
        region.splitWaiter = nil
        guard let client = waiter.client else { return }
        if divided, waiter.index == index, waiter.term == term {
            return reply(.regions(region.parts + [region.info]), client.sink, client.tag)
        }
        reply(
            .failed(.rejected(.staleEpoch(current: region.parts + [region.info]))), client.sink,
            client.tag)
    }

    /// Nobody will tell any more what became of it.
    func forgetSplit(_ region: Region) {
        region.ownSplit = nil
        guard let waiter = region.splitWaiter else { return }
        region.splitWaiter = nil
        guard let client = waiter.client else { return }
        let answer: RequestError = waiter.index == .zero ? region.notLeader : .outcomeUnknown
        reply(.failed(answer), client.sink, client.tag)
    }
}

extension RegionDescriptor {
    /// Whether the region can be divided at these keys.
    func check(_ keys: [Bytes]) throws(SplitRefusal) {
        guard !keys.isEmpty, keys.count <= SplitCommand.maxParts else { throw .tooMany }
        guard keys.allSatisfy({ $0.count <= CommandLimits.maxKeyBytes }) else { throw .malformed }
        guard keys.allSatisfy({ range.contains($0) && $0 > range.lower }) else {
            throw .keyOutside
        }
        guard zip(keys, keys.dropFirst()).allSatisfy({ $0 < $1 }) else { throw .keysUnordered }
    }
}

extension Applier {
    /// Whether the region has a key in `range`, as far as can be told.
    func hasKey(in range: KeyRange, of region: RegionID) -> Bool {
        let request = ReadRequest.scan(lower: range.lower, upper: range.upper, limit: 1)
        guard case .scan(let page) = read(region: region, request, tier: .any) else {
            return false
        }
        // It may have ended on the way, with nothing but what has expired.
        return !page.pairs.isEmpty || page.next.map { range.contains($0) } ?? false
    }
}
