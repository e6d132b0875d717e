// What other threads hand to a lane. Bounded where clients and peers write (typed refusals, dropped
// messages); unbounded only for completions, which answer work that was itself bounded.

import Synchronization
package import UkehiBase
package import UkehiRaft
package import UkehiState
package import UkehiWAL

/// Rare events, one enum.
package enum LaneEvent: Sendable {
    case unreachable(NodeID)
    /// A fetch of older entries has ended.
    case fetched(RegionID, [Entry])
    /// Entries of a region that its log holds cannot be read.
    case damaged(DamagedEntries)
    /// What the read thread has read for a peer whose own copy is damaged.
    case readForPeer(RegionID, Message)
    /// A damaged body was written again, or was not.
    case mended(DamagedEntries, MendOutcome)
    /// A read that missed the cache has been answered by the read thread.
    case readDone([DeferredReply])
    /// What a read met expires at this time, which the clock has passed and logged time has not.
    case readDue(RegionID, PendingRead, UInt64)
    /// Flushed applied indexes, as asked of the state store.
    case flushed([(region: RegionID, applied: LogIndex)])
    /// A snapshot for a peer was made, or could not be.
    case snapshotMade(RegionID, PeerID, UInt64, MadeSnapshot?)
    /// A chunk of one was read; nil: it cannot be.
    case snapshotRead(RegionID, PeerID, UInt64, Bytes?)
    /// A chunk of one that a region gets was written, or could not be.
    case snapshotWritten(RegionID, UInt64, Bool)
    /// All of one was checked; nil: it is refused.
    case snapshotChecked(RegionID, UInt64, SnapshotHeader?)
    /// The store's part of a region is a snapshot's now.
    case snapshotInstalled(RegionDescriptor)
    /// Regions to open, with the router that finds them.
    case install([RegionSeed], node: NodeID, cluster: ClusterID, router: Router)
    /// This is to be told whom the lane hears, and how its peers stand.
    case survey(@Sendable (_ heard: [NodeID], [PeerStanding]) -> Void)
    /// A peer is to lead without those on absent nodes.
    case forced(ForcedPeer, without: Set<NodeID>)
    /// A peer that never got anything of a lost region is to go; told why it does not.
    case abandon(RecoveryOrder.Abandoned, @Sendable (String?) -> Void)
    /// An id for a region's next peer, or that there is none to be had.
    case allocated(RegionID, PeerID?)
    /// Divisions, with their indexes, that no crash undoes any more.
    case splitsFlushed([(RegionID, LogIndex)])
    /// A region begins here, of which nobody has anything.
    case bear(RegionBirth)
    /// Leaders are to leave, and then this is to be called.
    case drain(@Sendable () -> Void)
    /// Regions that this node had a peer of.
    case graves([RegionTombstone])
    /// What a region has left here is taken out of the state; whether for good.
    case cleared(RegionID, isFlushed: Bool)
    /// A region is in another one's way: it may have missed something.
    case inquire(RegionID)
    /// Somebody waits until no crash undoes a division any more.
    case flushDivisions
    /// A region is to be divided at these keys, with ids from this one on; `ask` says by whose wish.
    case splitAt(RegionID, ask: UInt64, [Bytes], firstID: UInt64)
    /// It is not.
    case splitRefused(RegionID, ask: UInt64, SplitRefusal)
    /// How large a region is; nil: nobody knows.
    case sized(RegionID, KeyMarks?)
    /// A new region begins with this load.
    case inherit(RegionID, RegionLoad)
    /// What a region came out of will not bring its keys any more.
    case keysLost(RegionID)
    /// Regions that came out of others survive a crash by themselves.
    case based([RegionID])
    /// What a snapshot of a region would hold; nil: nobody knows.
    case snapshotMeasured(RegionID, UInt64?)
    /// Somebody asks for the transfers of all lanes.
    case tellTransfers(Gathering<SnapshotTransferInfo>)
    /// Somebody asks for the load of all lanes' regions.
    case tellLoads(LoadQuestion, Gathering<RegionLoadInfo>)
    /// A purge waits for records of its own to become durable.
    case purgeAgain
    /// Entries of these regions hold the log's oldest segment back.
    case pinned([RegionID])
    case stop
}

/// What one node sent to this lane's regions.
package struct PeerDelivery: Sendable {
    package var from: NodeID
    package var messages: [RegionMessage]
}

/// A reply that was made on another thread.
package struct DeferredReply: Sendable {
    package var sink: ReplySink
    package var tag: UInt64
    package var reply: Reply
    /// What the read counts for among those that wait.
    package var bytes: Int
}

/// Everything that waits for a lane.
package struct MailboxContents: Sendable {
    package var requests: [ClientRequest] = []
    package var requestBytes = 0
    package var deliveries: [PeerDelivery] = []
    package var messageBytes = 0
    package var durable: Ticket?
    package var applied: [ApplyBatch] = []
    package var events: [LaneEvent] = []
    package init() {}
}

/// A lane's in-tray. All methods any thread; the lock is held for a few instructions.
package final class Mailbox: Sendable {
    private struct State: Sendable {
        var contents = MailboxContents()
        var isWaking = false
        var isClosed = false
    }

    /// What became of a request.
    package enum Posted: Sendable {
        /// Taken, and the caller has to wake the lane.
        case takenWakeLane
        case taken
        /// The queue is full and nothing was taken.
        case full
        /// The lane has stopped and nothing was taken.
        case closed
    }
    private let state = Mutex(State())

    package init() {}

    /// Runs `body` on the contents; returns whether the caller has to wake the lane.
    private func post(_ body: (inout MailboxContents) -> Void) -> Bool {
        state.withLock { state in
            body(&state.contents)
            defer { state.isWaking = true }
            return !state.isWaking
        }
    }

    /// Hands in a request of `bytes` bytes.
    package func post(_ request: ClientRequest, bytes: Int) -> Posted {
        state.withLock { state in
            guard !state.isClosed else { return .closed }
            guard state.contents.requests.count < Limits.maxQueuedRequests,
                state.contents.requestBytes + bytes <= Limits.maxQueuedRequestBytes
            else { return .full }
            state.contents.requests.append(request)
            state.contents.requestBytes += bytes
            defer { state.isWaking = true }
            return state.isWaking ? .taken : .takenWakeLane
        }
    }

    /// Takes no request from now on; what is in it stays to be drained.
    package func close() { state.withLock { $0.isClosed = true } }

    /// Messages over the bound are dropped: Raft repairs losses.
    package func post(_ delivery: PeerDelivery, bytes: Int) -> Bool {
        post { contents in
            guard contents.messageBytes + bytes <= Limits.maxQueuedMessageBytes else { return }
            contents.deliveries.append(delivery)
            contents.messageBytes += bytes
        }
    }

    package func post(durable ticket: Ticket) -> Bool {
        post { contents in contents.durable = max(contents.durable ?? ticket, ticket) }
    }

    package func post(applied batch: ApplyBatch) -> Bool {
        post { contents in contents.applied.append(batch) }
    }

    package func post(_ event: LaneEvent) -> Bool {
        post { contents in contents.events.append(event) }
    }

    /// Hands in what the read thread has found, unless nobody is left to pass it on.
    func post(read event: LaneEvent) -> Posted {
        state.withLock { state in
            guard !state.isClosed else { return .closed }
            state.contents.events.append(event)
            defer { state.isWaking = true }
            return state.isWaking ? .taken : .takenWakeLane
        }
    }

    /// Takes everything by swapping it with `empty`; from now on a post wakes again.
    package func drain(into empty: inout MailboxContents) {
        state.withLock { state in
            swap(&state.contents, &empty)
            state.isWaking = false
        }
    }
}
