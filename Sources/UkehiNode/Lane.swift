// Hot path. A lane: one event loop's share of a node's regions, and the pass that drives them.
//
//   mailbox ──> step every event into its group ──> propose what clients brought
//           ──> take each dirty group's Ready:  one log batch for all of them
//                                               one send per destination node
//                                               one apply batch
//           ──> answer clients
//
// While a sync is in flight the next pass collects, so batches follow the load without a timer. A
// lane never blocks, sleeps or takes a lock that is held across I/O. Everything in this class runs
// on the lane's thread, except `post…` and `submit`.
//
// Invariant: log batches of this lane become durable in the order they were submitted, and responses
// that wait for one are delivered in that order.

import DequeModule
package import Logging
package import UkehiBase
package import UkehiEnvironment
package import UkehiRaft
package import UkehiState
package import UkehiWAL

/// Runs a lane's passes on its thread; an event loop in production, virtual time in the simulator.
package protocol LaneExecutor: AnyObject, Sendable {
    /// Whether the caller is on the lane's thread.
    var inLane: Bool { get }
    /// Runs ``Lane/runPass()`` soon, on the lane's thread. The lane asks once per pass.
    func wake(_ lane: Lane)
    /// Calls ``Lane/tick()`` on the lane's thread at this interval until stopped.
    func startTicks(everyNanoseconds interval: UInt64, lane: Lane)
    /// Ends ticks and wakes.
    func stop()
}

/// What a lane needs of its node.
package protocol LaneHost: AnyObject, Sendable {
    /// A group of this node has another leader now; any thread may ask for topology afterwards.
    func leaderChanged(region: RegionID, leader: NodeID?, term: Term, isLocal: Bool)
    /// What a lane leads, and how much is asked of it.
    func leads(_ load: NodeLoads.Load, lane: Int)
    /// The same of each node, as far as it said so lately; of this one, too.
    func loads() -> [NodeID: NodeLoads.Load]
    /// New regions come out of a division that is on its way to the state, and whose births are durable: they
    /// are to be opened ahead of their keys. On that lane's thread: those that live on it are when this returns.
    func openAhead(_ births: [RegionBirth], leaders: [PeerID], by lane: Lane)
    /// A region of this node was divided; new regions of this node are to be opened.
    func divided(_ parent: RegionDescriptor, into births: [RegionBirth], leaders: [PeerID])
    /// A division that this node led is applied; it is the first to lead these of the new regions.
    func noted(_ record: SplitRecord, led: [RegionID])
    /// A new region that this node is the first to lead serves.
    func serves(_ region: RegionID, at time: MonotonicTime)
    /// A region that came out of one that was led here begins with its part of the load.
    func inherit(_ load: RegionLoad, by region: RegionID)
    /// These ranges are others' now; a crash may yet undo that, until replay does it again. Meanwhile nobody
    /// is introduced to them here: after such a crash both would hold them.
    func gave(_ ranges: [KeyRange], by region: RegionID)
    /// No crash undoes what the region has given away.
    func keepsGiven(by region: RegionID)
    /// What this node knows of a new region as it replays, or is about to apply, what it came out of.
    func standing(ofChild region: RegionID) -> ChildStanding
    /// The last division that regions wait for this one to apply, since their keys come with it; nil: none do.
    func awaitedIndex(of region: RegionID) -> LogIndex?
    /// Whether a division that a crash may undo has given keys of a range away here.
    func isGiven(_ range: KeyRange) -> Bool
    /// A region has what it has up to `index` for good, or, at nil, is gone, and its keys are: of what came out of it
    /// before that it brings no keys any more. It is durable.
    func settled(_ region: RegionID, upTo index: LogIndex?)
    /// A region had lost its keys and has them again.
    func keysRestored(_ region: RegionDescriptor)
    /// Whether this node knows a region of that id.
    func knows(_ region: RegionID) -> Bool
    /// A region of this node has other members now.
    func membersChanged(_ descriptor: RegionDescriptor)
    /// Whether a region may come to be here: no other one of this node has any of its keys, nor is any being
    /// cleared away (RULES 19). True reserves them.
    func admits(_ birth: RegionBirth) -> Bool
    /// A region's birth is durable: it is to be opened.
    func born(_ birth: RegionBirth)
    /// A region is closed on its lane: its peer here is no member any more, and held the keys of a range.
    func left(_ last: RegionDescriptor, held: KeyRange)
    /// Ranges of this node's regions, in whose keys nothing else may be cleared away.
    func liveRanges() -> [KeyRange]
    /// A region's tombstone is durable: replay gives it no keys, so no other one's log is kept for them.
    func buried(_ region: RegionID)
    /// What a region has left here is cleared away, and no crash brings it back.
    func cleared(_ region: RegionID)
    /// Where a key is that no region of this node holds.
    func elsewhere(_ key: Bytes) -> RequestError.Rejection
    /// Where a region is that this node has no peer of; nil: it knows of none.
    func elsewhere(_ region: RegionID) -> RequestError.Rejection?
    /// The cluster's nodes, ascending.
    func knownNodes() -> [NodeID]
    /// Gets the first of `count` ids in a row that nothing ever had, from whoever leads the system region;
    /// nil if that fails. What a lost answer brought is never used (RULES 17). For what comes out of a region
    /// they are above its id, and may have been in reserve; others are above all that were ever given.
    func allocate(
        _ count: Int, outOf region: RegionID?, _ done: @escaping @Sendable (UInt64?) -> Void)
    /// A node says something that no region is concerned with: of ids, or of nodes.
    func received(nodeMessage: Message, from node: NodeID)
    /// A second has passed: whatever keeps the cluster's nodes known to each other. Told by the first lane.
    func tendRegistry()
    /// A peer that led without dead ones has no such members any more.
    func recovered(_ region: RegionID, peer: PeerID)
    /// Entries of these regions, of any lane, hold the log's oldest segment back.
    func pinned(_ regions: [RegionID])
    /// The node cannot go on: log or state store failed.
    func failed(_ error: NodeError)
}

/// What a node knows of a region that comes out of another one.
package enum ChildStanding: Hashable, Sendable {
    /// It has no birth record.
    case new
    /// It was born in an earlier life of the process and waits.
    case waiting
    /// Its peer here was removed.
    case gone
    /// There is a region of that id here which is none of its.
    case taken
}

/// A log batch that is on its way to disk, and what waits for it.
struct InFlightBatch {
    struct Item {
        var region: Region
        var entries: [Entry]
        var responses: [Message]
        /// The log is reset to this before the entries follow.
        var reset: (index: LogIndex, term: Term)?
    }
    /// A region that begins or ends with the batch.
    enum Turn {
        case born(RegionBirth)
        case left(RegionTombstone)
        /// A commit index that membership changes up to `index` wait for.
        case committed(Region, index: LogIndex)
        /// New regions that come out of it.
        case parted(Region)
    }
    var ticket: Ticket
    /// The lane's tick at which it was handed to the log.
    var since: UInt64
    var items: [Item]
    var turns: [Turn] = []
}

package final class Lane: @unchecked Sendable {
    // Safety: all stored state but the mailbox is confined to the executor's thread.
    package let index: Int
    let options: NodeOptions
    let executor: any LaneExecutor
    let mailbox = Mailbox()
    let clock: any NodeClock
    let log: WriteAheadLog
    let applier: Applier
    let transport: Transport
    let applyWorker: any Worker
    let readWorker: any Worker
    /// Flushes, purges, and what else takes long.
    let maintenanceWorker: any Worker
    let snapshotWork: SnapshotWork
    /// Known once regions are open.
    var node: NodeID?
    /// Gone once the node is: a pass that is still queued then tells nobody.
    weak var host: (any LaneHost)?
    /// Looks on, in simulations; nil in production.
    let observer: (any NodeObserver)?
    let rare: RarePaths
    let logger: Logger

    var regions: [RegionID: Region] = [:]
    /// Ascending by id: the order of ticks and maintenance never depends on hashing.
    var orderedRegions: [Region] = []
    /// What all its cores have in common.
    let settingsPool = RaftSettingsPool()
    var router = Router([])
    /// Of those not yet among these: opened ahead of their keys (Lane+OpeningAhead.swift). Ascending by id.
    var awaitingRegions: [Region] = []
    /// This lane's regions by their place in the router; nil: another lane's.
    var routedRegions: [Region?] = []
    /// Other nodes' messages of this pass, by slot.
    var outboxes: [(node: NodeID, messages: [RegionMessage], heardTick: UInt64)] = []

    var dirty: [Region] = []
    var spareDirty: [Region] = []
    var inbox = MailboxContents()
    var ready = Ready()
    var batch: LogBatch
    var batchItems: [InFlightBatch.Item] = []
    var batchTurns: [InFlightBatch.Turn] = []
    /// Its leaders are leaving, since the node is about to stop.
    var draining: Draining?
    var leaderBalance: LeaderBalance
    /// The tick at which leaderships went for their load last.
    var sharedLoadAt: UInt64 = 0
    /// Regions whose births are on their way to disk, or which are being opened.
    var arriving: Set<RegionID> = []
    var earlyAppends = EarlyAppends()
    /// Of regions that this node had a peer of (RULES 20).
    var tombstones: [RegionID: RegionTombstone] = [:]
    /// Regions whose remains are still there; no peer of them can come to be before they are cleared away
    /// for good.
    var remains: [RegionID: Remains] = [:]
    /// Who is told when a region's tombstone is durable: it was given up for a recovery.
    var abandoned: [RegionID: @Sendable (String?) -> Void] = [:]
    var inFlight = Deque<InFlightBatch>()
    var lastTicket: Ticket = 0
    /// See Lane+FullVolume.swift.
    var room = LogRoom.ample
    /// Half of what the log has left, if that is not ample; what this lane has taken of it since it looked; and
    /// what it leaves for others than clients.
    var roomBytes = 0
    var roomTaken = 0
    var roomKept = 0
    /// Other nodes that say that they should lead nothing now, and those of them whose volumes are full.
    var unfitNodes: Set<NodeID> = []
    var fullNodes: Set<NodeID> = []
    /// The tick since which the log takes no batch; nil: it took the last one.
    var refusedSince: UInt64?
    var logStall: LogStall?
    /// The tick at which this node's leaderships are offered next, while it should have none.
    var handsOverAt: UInt64 = 0
    /// After a stall the balancer waits for this tick before it lets the node lead again.
    var calmAt: UInt64 = 0
    var applyBatch = ApplyBatch()
    var applyBytes = 0
    var isApplying = false
    /// Regions that serve once what was handed to apply in this pass is applied.
    var servingNext: [Region] = []
    /// The tick from which on a division is applied that was to wait; simulations only.
    var dividesAt: UInt64 = 0
    /// Log bytes written when the store was last asked to flush.
    var flushedAtBytes: UInt64 = 0
    /// The tick at which divisions were flushed last.
    var askedToFlushAt: UInt64?
    /// A compaction was handed to the log since the last purge.
    var wantsPurge = false
    /// Of all regions; see Lane+Mending.swift.
    var holes = 0
    /// Reads for peers whose logs are damaged, under way on the read thread.
    var peerReads = 0
    var snapshots = SnapshotTraffic()
    /// Which one the node is of; set before any region is open.
    var cluster = ClusterID(high: 0, low: 0)
    var packer = EntryPacker()
    var contexts = ByteWriter(chunkCapacity: 4096)
    /// Of reads that wait for a quorum, to be applied, or for the read thread.
    var waitingReadBytes = 0
    var touchedSinks: [ReplySink] = []
    /// Requests from this thread: they need no lock.
    var localRequests: [ClientRequest] = []
    var localRequestBytes = 0
    var spareRequests: [ClientRequest] = []
    /// When loads were last looked at, in ticks.
    var meteredAt: UInt64 = 0
    /// Regions whose sizes are being asked for.
    var sizesAsked = 0
    var isInPass = false
    var isPassScheduled = false
    var isStopped = false
    var ticks: UInt64 = 0
    package private(set) var passes: UInt64 = 0
    /// The wall clock as this pass first asked for it; zero: it has not.
    var passWallTime: UInt64 = 0
    /// Bytes that reads have taken from memory in this pass.
    var readBytesInPass = 0

    package init(
        index: Int, options: NodeOptions, executor: any LaneExecutor, clock: any NodeClock,
        log: WriteAheadLog, applier: Applier, transport: Transport, applyWorker: any Worker,
        readWorker: any Worker, maintenanceWorker: any Worker, snapshotWork: SnapshotWork,
        host: any LaneHost,
        observer: (any NodeObserver)? = nil, rare: RarePaths = .off, logger: Logger
    ) {
        self.index = index
        self.options = options
        leaderBalance = LeaderBalance(threshold: options.rebalanceThreshold)
        self.executor = executor
        self.clock = clock
        self.log = log
        batch = log.newBatch()
        self.applier = applier
        self.transport = transport
        self.applyWorker = applyWorker
        self.readWorker = readWorker
        self.maintenanceWorker = maintenanceWorker
        self.snapshotWork = snapshotWork
        self.host = host
        self.observer = observer
        self.rare = rare
        self.logger = logger
        watchRoom()
    }

    // MARK: From any thread

    /// Takes a request, or answers `overloaded` at once.
    package func submit(_ request: ClientRequest) {
        if executor.inLane {
            guard !isStopped else { return refuse(request, Lane.stopping) }
            let bytes = request.queuedBytes
            guard localRequests.count < Limits.maxQueuedRequests,
                localRequestBytes + bytes <= Limits.maxQueuedRequestBytes
            else { return refuse(request, .overloaded) }
            localRequestBytes += bytes
            localRequests.append(request)
            if !isInPass { scheduleLocally() }
            return
        }
        switch mailbox.post(request, bytes: request.queuedBytes) {
        case .full: refuse(request, .overloaded)
        case .closed: refuse(request, Lane.stopping)
        case .takenWakeLane: executor.wake(self)
        case .taken: break
        }
    }

    /// Takes many requests, or answers `overloaded`; leaves the array empty with its room.
    package func submit(batch: inout [ClientRequest]) {
        guard executor.inLane, !isStopped else {
            for position in batch.indices { submit(batch[position]) }
            return batch.removeAll(keepingCapacity: true)
        }
        var bytes = 0
        for position in batch.indices { bytes += batch[position].queuedBytes }
        if localRequests.isEmpty {
            localRequestBytes = bytes
            swap(&localRequests, &batch)
        } else if localRequests.count + batch.count <= Limits.maxQueuedRequests,
            localRequestBytes + bytes <= Limits.maxQueuedRequestBytes
        {
            localRequestBytes += bytes
            localRequests.append(contentsOf: batch)
        } else {
            for position in batch.indices { refuse(batch[position], .overloaded) }
        }
        batch.removeAll(keepingCapacity: true)
        if !isInPass { scheduleLocally() }
    }

    static let stopping = RequestError.Rejection.unavailable("The node is stopping.")

    private func refuse(_ request: ClientRequest, _ reason: RequestError.Rejection) {
        request.sink.reply(.failed(.rejected(reason)), tag: request.tag)
        request.sink.flush()
    }

    package func post(_ messages: [RegionMessage], from node: NodeID) {
        var bytes = messages.count * MemoryLayout<RegionMessage>.stride
        for position in messages.indices {
            for entry in messages[position].message.entries { bytes += entry.recordBytes }
            bytes += messages[position].message.context.count
            bytes += messages[position].message.snapshot?.data.count ?? 0
        }
        let delivery = PeerDelivery(from: node, messages: messages)
        if mailbox.post(delivery, bytes: bytes) { executor.wake(self) }
    }

    package func post(durable ticket: Ticket) {
        if mailbox.post(durable: ticket) { executor.wake(self) }
    }

    func post(applied batch: ApplyBatch) {
        if mailbox.post(applied: batch) { executor.wake(self) }
    }

    package func post(_ event: LaneEvent) {
        if mailbox.post(event) { executor.wake(self) }
    }

    /// Passes on what the read thread has read; once the lane has stopped, from that thread itself.
    func post(readDone deferred: DeferredReply) {
        switch mailbox.post(read: .readDone([deferred])) {
        case .takenWakeLane: executor.wake(self)
        case .taken, .full: break
        case .closed:
            deferred.sink.reply(deferred.reply, tag: deferred.tag)
            deferred.sink.flush()
        }
    }

    /// The same of a read that met what is due.
    func post(due read: PendingRead, at time: UInt64, in region: RegionID) {
        switch mailbox.post(read: .readDue(region, read, time)) {
        case .takenWakeLane: executor.wake(self)
        case .taken, .full: break
        case .closed:
            read.sink.reply(.failed(.rejected(Lane.stopping)), tag: read.tag)
            read.sink.flush()
        }
    }

    // MARK: The pass

    /// Whether a small write is on its way to the disk, and its end is all there is to wait for: an
    /// executor may watch for it rather than sleep.
    ///
    /// A leader with peers has nothing to watch for: its own write ends before theirs do, and a
    /// third thread that spins takes a core from those whose end decides.
    package var awaitsSmallWrite: Bool {
        guard inFlight.count == 1, let only = inFlight.first, only.items.count <= 2 else {
            return false
        }
        return outboxes.isEmpty || only.items.allSatisfy { !$0.region.isLeader }
    }

    func scheduleLocally() {
        guard !isPassScheduled else { return }
        isPassScheduled = true
        executor.wake(self)
    }

    func markDirty(_ region: Region) {
        region.isTouched = true
        guard !region.isDirty else { return }
        region.isDirty = true
        dirty.append(region)
    }

    /// Drains the mailbox and does everything that follows from it. On the lane's thread.
    package func runPass() {
        isPassScheduled = false
        guard !isStopped else { return refuseAll() }
        isInPass = true
        passes &+= 1
        readBytesInPass = 0
        passWallTime = 0
        mailbox.drain(into: &inbox)
        let late = rare.takes(.fewRequests) ? takeLateRequests() : []
        if rare.isOn { leaveSomeForLater() }
        if let ticket = inbox.durable { completeDurable(upTo: ticket) }
        for batch in inbox.applied {
            isApplying = false
            completeApply(batch)
        }
        for delivery in inbox.deliveries { receive(delivery) }
        for event in inbox.events { handle(event) }
        if isStopped {
            isInPass = false
            putBack(late)
            return refuseAll()
        }
        accept(all: inbox.requests)
        acceptLocal()
        if !late.isEmpty { putBack(late) }
        reset(&inbox)
        driveDirty()
        // Peers first: their way to a durable copy is longer than ours.
        if !rare.takes(.sentLate) { sendOutboxes() } else { scheduleLocally() }
        submitBatch()
        startApply()
        flushSinks()
        isInPass = false
        if !localRequests.isEmpty || !dirty.isEmpty || rare.takes(.idlePass) {
            scheduleLocally()
        }
    }

    private func accept(all requests: [ClientRequest]) {
        for position in requests.indices { accept(requests[position]) }
    }

    private func acceptLocal() {
        guard !localRequests.isEmpty else { return }
        // Out of the lane while it is walked, so that walking it copies no request.
        var requests = spareRequests
        spareRequests = []
        swap(&requests, &localRequests)
        localRequestBytes = 0
        accept(all: requests)
        requests.removeAll(keepingCapacity: true)
        spareRequests = requests
    }

    private func reset(_ contents: inout MailboxContents) {
        contents.requests.removeAll(keepingCapacity: true)
        contents.deliveries.removeAll(keepingCapacity: true)
        contents.applied.removeAll(keepingCapacity: true)
        contents.events.removeAll(keepingCapacity: true)
        contents.requestBytes = 0
        contents.messageBytes = 0
        contents.durable = nil
    }

    /// Answers what still comes in after the lane has stopped.
    private func refuseAll() {
        let stopped = Reply.failed(.rejected(Lane.stopping))
        func refuse(_ requests: [ClientRequest]) {
            for request in requests { reply(stopped, request.sink, request.tag) }
        }
        refuse(inbox.requests)
        reset(&inbox)
        mailbox.drain(into: &inbox)
        refuse(inbox.requests)
        for event in inbox.events {
            switch event {
            case .readDone(let replies):
                for deferred in replies { reply(deferred.reply, deferred.sink, deferred.tag) }
            case .readDue(_, let read, _): reply(stopped, to: read)
            // Whoever drains the node waits for each of its lanes.
            case .drain(let done): done()
            default: break
            }
        }
        reset(&inbox)
        refuse(localRequests)
        localRequests.removeAll()
        flushSinks()
    }

    /// Proposes, asks for read indexes, and takes the Ready of each dirty group.
    private func driveDirty() {
        swap(&dirty, &spareDirty)
        var left = rare.takes(.fewGroups) ? spareDirty.count / 2 : 0
        for region in spareDirty {
            if left > 0 {
                left -= 1
                dirty.append(region)
                continue
            }
            region.isDirty = false
            if region.isClosed { continue }
            // One that an earlier pass left here was shown since.
            region.isTouched = true
            if !region.pendingWrites.isEmpty { proposePending(region) }
            if !region.pendingReads.isEmpty { askReadIndex(region) }
            takeReady(region)
        }
        spareDirty.removeAll(keepingCapacity: true)
    }

    func reply(_ reply: Reply, _ sink: ReplySink, _ tag: UInt64) {
        if !isStopped, rare.takes(.replyLate) {
            return post(readDone: DeferredReply(sink: sink, tag: tag, reply: reply, bytes: 0))
        }
        sink.reply(reply, tag: tag)
        if touchedSinks.last !== sink && !touchedSinks.contains(where: { $0 === sink }) {
            touchedSinks.append(sink)
        }
    }

    /// The node cannot go on.
    func fail(_ error: NodeError) { host?.failed(error) }

    func flushSinks() {
        guard !touchedSinks.isEmpty else { return }
        for sink in touchedSinks { sink.flush() }
        touchedSinks.removeAll(keepingCapacity: true)
    }

    private func sendOutboxes() {
        for slot in outboxes.indices where !outboxes[slot].messages.isEmpty {
            if rare.takes(.sentOneByOne) {
                for message in outboxes[slot].messages {
                    transport.send([message], to: outboxes[slot].node, lane: index)
                }
            } else {
                transport.send(outboxes[slot].messages, to: outboxes[slot].node, lane: index)
            }
            outboxes[slot].messages.removeAll(keepingCapacity: true)
        }
    }
}
