// The map of the cluster's regions: leaders report, the system region keeps, every node follows (RULES 63).
//
//   a region's leader   new, changed, or told to nobody yet ──reportRegions──▶ whoever leads the system region
//   that one            what is newer than its map: one write at a time, under `region/` and the id
//   all others          hear with its load how far its map is, and ask for what they lack: requestRegions
//
// It says where to ask, and no more: a node that is asked judges by what its region has applied. Whoever begins to
// lead the system region, and a new generation of it, is told of every region anew: what was lost comes back.
//
// Invariants
//   - The leader's map holds what the system region holds, and what its one write under way will add: it is
//     loaded behind a command of its own term, and loaded again where a write's fate is unknown.
//   - A report that is answered is in the map, or known there in a newer form, unless that leader's term ends.

import Logging
import Synchronization
import UkehiBase
import UkehiEnvironment
import UkehiRaft
import UkehiState

extension NodeCore {
    /// Looks after which what was sent and not answered is sent again.
    private static let patience: UInt64 = 3
    /// Regions of one report, and of one write; bytes of either, about.
    private static let (maxAtOnce, maxBytes) = (512, 64 << 10)
    /// Regions of which the leader keeps reports that it has not judged.
    private static let maxIncoming = 1 << 17

    /// Once a second, on the boot worker.
    func tendMap() {
        if state.withLock({ $0.keeping.term > .zero }) {
            loadMap()
            writeMap()
        }
        tellRegions()
        followMap()
    }

    /// Where the cluster's regions are, as far as this node was told, ascending by range.
    package var mappedRegions: [RegionDescriptor] { state.withLock { $0.keeping.map.regions } }

    /// The same as the state of the system region has it here, as far as that is applied; nil: it is not here.
    /// Blocking.
    package var recordedRegions: [RegionDescriptor]? {
        guard state.withLock({ $0.system != nil }) else { return nil }
        return storedMap().map?.regions
    }

    // MARK: Who leads regions

    /// Tells whoever leads the system region what it does not know yet; what is left, once that is answered.
    private func tellRegions() {
        let now = environment.clock.now()
        let message: (to: NodeID, message: Message)? = state.withLock { state in
            // An answer to an earlier life of this process is not taken for one to this.
            if state.keeping.lastReport == 0 { state.keeping.lastReport = now.nanoseconds }
            guard let reign = state.mapReign, let own = state.identity.node else { return nil }
            if state.keeping.told != reign {
                state.keeping.told = reign
                state.keeping.report = nil
                for region in state.table.ascending where state.leaders[region.region] == own {
                    state.keeping.untold.insert(region.region)
                }
            }
            if let report = state.keeping.report {
                guard state.tending.looks >= report.look + Self.patience else { return nil }
                #if BugBank
                    let isRepeated = !PlantedBug.lostReportForgotten.isPlanted
                #else
                    let isRepeated = true
                #endif
                if isRepeated { state.keeping.untold.formUnion(report.regions) }
                state.keeping.report = nil
            }
            guard !state.keeping.untold.isEmpty else { return nil }
            // Of its own reports it needs no parts.
            let limit = reign.node == own ? (Int.max, Int.max) : (Self.maxAtOnce, Self.maxBytes)
            let reports = Self.reports(&state, own: own, limit: limit)
            if reign.node == own {
                for report in reports { state.keeping.took(report) }
                return nil
            }
            guard !reports.isEmpty else { return nil }
            state.keeping.lastReport += 1
            state.keeping.report = (
                state.keeping.lastReport, reports.map(\.region.region), state.tending.looks
            )
            let changes = reports.map { MappedRegion(report: $0, revision: 0) }
            return (
                reign.node,
                Message(
                    kind: .reportRegions, index: LogIndex(state.keeping.lastReport),
                    commit: LogIndex(reign.generation), context: MappedRegion.encoded(changes))
            )
        }
        if let message { send(message.message, to: message.to) }
        writeMap()
    }

    /// Takes regions out of those that are to be told, as they are now; those led by others now are theirs to tell.
    private static func reports(
        _ state: inout State, own: NodeID, limit: (count: Int, bytes: Int)
    ) -> [RegionReport] {
        var reports: [RegionReport] = []
        var bytes = 0
        for region in state.keeping.untold.sorted() {
            guard reports.count < limit.count, bytes < limit.bytes else { break }
            state.keeping.untold.remove(region)
            guard state.leaders[region] == own, let descriptor = state.table[region] else {
                continue
            }
            reports.append(RegionReport(descriptor, generation: state.generation))
            bytes += RegionReport.bytes(of: descriptor)
        }
        return reports
    }

    // MARK: Who leads the system region

    private func take(_ message: Message, from node: NodeID) {
        guard let changes = try? MappedRegion.decode(message.context) else { return }
        let answer: Message? = state.withLock { state in
            guard state.keeping.term > .zero,
                message.commit.rawValue == state.generation,
                state.keeping.incoming.count + state.keeping.nextUp.count + changes.count
                    <= Self.maxIncoming
            else { return nil }
            for change in changes
            // A leader is a member; what came under way from another generation is void.
            where change.report.generation == state.generation
                && change.report.region.peer(on: node) != nil
            {
                state.keeping.took(change.report)
            }
            return Message(
                kind: .reportRegionsResponse, term: state.keeping.term, index: message.index,
                commit: message.commit)
        }
        guard let answer else { return }
        send(answer, to: node)
        bootWorker.run { [self] in writeMap() }
    }

    /// Puts what is new into the system region, if no write is under way.
    private func writeMap() {
        let write: (term: Term, taken: [RegionReport], commands: [Command])? = state.withLock {
            state in
            guard state.keeping.term > .zero, state.keeping.isLoaded, !state.keeping.isBusy,
                !(state.keeping.incoming.isEmpty && state.keeping.nextUp.isEmpty
                    && state.keeping.garbage.isEmpty)
            else { return nil }
            var taken: [RegionReport] = []
            while taken.isEmpty {
                let batch = state.keeping.takeIncoming(Self.maxAtOnce, bytes: Self.maxBytes)
                guard !batch.isEmpty else { break }
                let (fresh, superseded) = state.keeping.map.take(
                    batch.map { MappedRegion(report: $0, revision: 0) })
                taken = fresh.map(\.report)
                state.keeping.garbage.formUnion(superseded)
            }
            state.keeping.garbage.subtract(taken.map(\.region.region))
            let past = Array(state.keeping.garbage.sorted().prefix(Self.maxAtOnce))
            state.keeping.garbage.subtract(past)
            guard !taken.isEmpty || !past.isEmpty else { return nil }
            state.keeping.isBusy = true
            let commands =
                taken.map {
                    Command.put(key: SystemKey.region($0.region.region), value: $0.encoded())
                } + past.map { .delete(key: SystemKey.region($0)) }
            return (state.keeping.term, taken, commands)
        }
        guard let write else { return }
        submitSystem(.batch(write.commands), key: SystemKey.regionsBegin) { [weak self] reply in
            self?.wrote(write.taken, in: write.term, reply)
        }
    }

    private func wrote(_ taken: [RegionReport], in term: Term, _ reply: Reply) {
        state.withLock { state in
            guard state.keeping.term == term else { return }
            state.keeping.isBusy = false
            // Where a new generation has begun meanwhile it is loaded, and with it this.
            guard state.keeping.isLoaded else { return }
            guard case .command(.applied(let revision)) = reply else {
                // What became of it is seen by loading.
                state.keeping.isLoaded = false
                for report in taken { state.keeping.took(report) }
                return
            }
            state.keeping.map.stored(taken.map(\.region.region), at: revision)
        }
        bootWorker.run { [weak self] in self?.writeMap() }
    }

    /// Reads the map that the system region has, once everything that was written before this term is applied here.
    private func loadMap() {
        let term: Term? = state.withLock { state in
            guard state.keeping.term > .zero, !state.keeping.isLoaded, !state.keeping.isBusy else {
                return nil
            }
            state.keeping.isBusy = true
            return state.keeping.term
        }
        guard let term, let record = state.withLock({ $0.identity.record }) else { return }
        // It is there by now; whatever comes of it, what is before it is applied.
        let barrier = Command.compareAndSet(
            key: SystemKey.cluster, expected: .absent, value: Bytes("\(record.cluster)"))
        submitSystem(barrier, key: SystemKey.cluster) { [weak self] reply in
            guard let self else { return }
            guard case .command = reply else {
                return state.withLock { state in
                    if state.keeping.term == term { state.keeping.isBusy = false }
                }
            }
            bootWorker.run { [self] in
                let (map, garbage) = storedMap()
                state.withLock { state in
                    guard state.keeping.term == term else { return }
                    state.keeping.isBusy = false
                    guard let map else { return }
                    state.keeping.map = map
                    state.keeping.garbage = garbage
                    state.keeping.isLoaded = true
                }
                writeMap()
            }
        }
    }

    /// The map as the system region has it here, and records that are to go; nil: it cannot be read now.
    private func storedMap() -> (map: RegionMap?, garbage: Set<RegionID>) {
        var map = RegionMap()
        var garbage: Set<RegionID> = []
        var next: Bytes? = SystemKey.regionsBegin
        while let lower = next {
            let found = applier.read(
                region: .system,
                .scan(lower: lower, upper: SystemKey.regionsEnd, limit: Self.maxAtOnce), tier: .any)
            guard case .scan(let page) = found else { return (nil, []) }
            next = page.next
            var changes: [MappedRegion] = []
            for pair in page.pairs {
                guard let region = SystemKey.region(of: pair.key) else { continue }
                if let report = try? RegionReport.decode(pair.value),
                    report.region.region == region
                {
                    changes.append(MappedRegion(report: report, revision: pair.version))
                } else {
                    // Its leader says it again.
                    logger.warning(
                        "a record of the map of regions cannot be read",
                        metadata: ["region": "\(region)"])
                    garbage.insert(region)
                }
            }
            let (taken, superseded) = map.take(changes)
            garbage.formUnion(superseded)
            garbage.formUnion(
                Set(changes.map(\.report.region.region)).subtracting(
                    taken.map(\.report.region.region)))
            map.reached(changes.map(\.revision).max() ?? 0)
        }
        return (map, garbage)
    }

    // MARK: Who follows

    /// What a node says with its load.
    func heard(_ node: NodeID, leadsSystemIn term: Term, mapAt revision: UInt64) {
        guard term > .zero else { return }
        state.withLock { state in
            let look = state.tending.looks
            if let heard = state.keeping.heard, heard.term > term,
                heard.look + NodeLoads.looks >= look
            {
                return
            }
            state.keeping.heard = (node, term, revision, look)
        }
    }

    /// Asks for what this node's map lacks.
    private func followMap() {
        let question: (to: NodeID, message: Message)? = state.withLock { state in
            guard state.keeping.term == .zero, let reign = state.mapReign,
                let heard = state.keeping.heard, heard.revision > state.keeping.map.revision,
                state.keeping.askedAt.map({ state.tending.looks >= $0 + Self.patience }) ?? true
            else { return nil }
            state.keeping.askedAt = state.tending.looks
            return (
                reign.node,
                Message(
                    kind: .requestRegions, index: LogIndex(state.keeping.map.revision),
                    commit: LogIndex(reign.generation))
            )
        }
        if let question { send(question.message, to: question.to) }
    }

    /// What nodes say to nodes about regions.
    func received(mapMessage message: Message, from node: NodeID) {
        switch message.kind {
        case .reportRegions: take(message, from: node)
        case .reportRegionsResponse:
            let isAnswered = state.withLock { state in
                guard let told = state.keeping.told, told.node == node, told.term == message.term,
                    state.keeping.report?.number == message.index.rawValue
                else { return false }
                state.keeping.report = nil
                return true
            }
            if isAnswered { bootWorker.run { [self] in tellRegions() } }
        // Off the system region's lane.
        case .requestRegions: bootWorker.run { [self] in tellChanges(message, to: node) }
        case .regions: bootWorker.run { [self] in takeChanges(message, from: node) }
        default: break
        }
    }

    private func tellChanges(_ question: Message, to node: NodeID) {
        let (map, term) = state.withLock { state -> (RegionMap?, Term) in
            guard state.keeping.term > .zero, state.keeping.isLoaded,
                question.commit.rawValue == state.generation
            else { return (nil, .zero) }
            return (state.keeping.map, state.keeping.term)
        }
        guard let map else { return }
        let (changes, reached) = map.changes(
            after: question.index.rawValue, maxBytes: Self.maxBytes)
        send(
            Message(
                kind: .regions, term: term, logTerm: Term(question.index.rawValue),
                index: LogIndex(reached), commit: question.commit,
                context: MappedRegion.encoded(changes)), to: node)
    }

    private func takeChanges(_ answer: Message, from node: NodeID) {
        guard let changes = try? MappedRegion.decode(answer.context) else { return }
        let isTaken = state.withLock { state in
            guard state.keeping.term == .zero, state.keeping.heard?.node == node,
                answer.commit.rawValue == state.generation,
                // Where it begins nothing is missing before.
                answer.logTerm.rawValue <= state.keeping.map.revision
            else { return false }
            state.keeping.askedAt = nil
            _ = state.keeping.map.take(changes)
            state.keeping.map.reached(answer.index.rawValue)
            return true
        }
        if isTaken { followMap() }
    }
}
