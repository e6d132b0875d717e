// What clients ask of a node, in process or from afar, and what they are told.

public import UkehiBase
public import UkehiEnvironment
public import UkehiState

/// How fresh a read must be. The default everywhere is ``linearizable``.
public enum ReadMode: UInt8, Sendable, Hashable, CaseIterable {
    /// Sees every write acknowledged before the read began; one round to a quorum (ReadIndex).
    case linearizable = 0
    /// Linearizable while clocks run at the same rate within the stated bound; no round.
    case lease = 1
    /// Whatever this replica has applied: may be old, by any amount.
    case stale = 2
}

/// What is asked.
public enum ClientOperation: Sendable {
    /// One command record (UkehiState), already encoded; `key` of the request is its routing key.
    case write(record: Bytes)
    case get(ReadMode)
    /// Keys in `key..<upper` of one region, at most `limit` pairs and about 1 MiB.
    case scan(upper: Bytes, limit: Int, ReadMode)
    /// A read of an embedder's state machine.
    case query(Bytes, ReadMode)
    /// The regions this node knows and who leads them.
    case topology
    /// About a region's members; `key` does not matter.
    case members(RegionID, MemberRequest)
    /// To divide the region that holds `key` at these keys, ascending; answered with the regions that come
    /// out of it.
    case split([Bytes])
    /// The snapshots that the asked node sends and gets just now.
    case transfers
    /// The load on regions that the asked node leads.
    case loads(LoadQuestion)
    /// About lost quorums: no bytes ask how the node stands, others order it to do something. Of this node,
    /// whatever it holds.
    case recovery(Bytes)
    /// The digest of the region that holds `key`, at its applied index on this node.
    case digest
}

/// One request. `key` decides the region.
public struct ClientRequest: Sendable {
    public var operation: ClientOperation
    public var key: Bytes
    /// The region and epoch the client believes in; nil: by key alone.
    public var expected: (region: RegionID, epoch: RegionEpoch)?
    /// Past it the client no longer waits: an unstarted request is dropped as `timedOut`.
    public var deadline: MonotonicTime
    public var sink: ReplySink
    /// Given back with the reply.
    public var tag: UInt64

    public init(
        operation: ClientOperation, key: Bytes,
        expected: (region: RegionID, epoch: RegionEpoch)? = nil,
        deadline: MonotonicTime = MonotonicTime(nanoseconds: .max), sink: ReplySink, tag: UInt64
    ) {
        self.operation = operation
        self.key = key
        self.expected = expected
        self.deadline = deadline
        self.sink = sink
        self.tag = tag
    }
}

extension ClientRequest {
    /// Bytes that it holds while it waits.
    var queuedBytes: Int {
        switch operation {
        case .write(let record): key.count + record.count
        case .scan(let upper, _, _): key.count + upper.count
        case .query(let body, _), .recovery(let body): key.count + body.count
        case .get, .topology, .digest, .transfers, .loads: key.count
        case .members(_, .plan(let nodes)), .members(_, .set(let nodes)):
            key.count + 8 * nodes.count
        case .members: key.count
        case .split(let keys): keys.reduce(key.count) { $0 + $1.count }
        }
    }
}

/// Where replies go. Called once per request, on the lane's or an apply thread; must not block.
/// A class to be subclassed: replies are per operation, and a virtual call is cheaper than a closure.
open class ReplySink: @unchecked Sendable {
    // Safety: no stored state here; subclasses guard their own.
    public init() {}
    open func reply(_ reply: Reply, tag: UInt64) { fatalError("a sink takes replies") }
    /// A pass has delivered its replies: flush what was collected. Called after one or more replies.
    open func flush() {}
}

/// What a client is told.
public enum Reply: Sendable {
    /// The command ran; its own conditions may have failed: see the result.
    case command(CommandResult)
    case value(VersionedValue?)
    case scan(ScanPage)
    case query(Bytes)
    case topology(Topology)
    case digest(RegionDigest)
    case members(MemberReport)
    /// Regions as they are now, ascending.
    case regions([RegionInfo])
    case transfers([SnapshotTransferInfo])
    /// The hottest first.
    case loads([RegionLoadInfo])
    /// How the node stands.
    case recovery(Bytes)
    case failed(RequestError)
}

/// One region as routers know it.
public struct RegionInfo: Hashable, Sendable {
    public var region: RegionID
    public var range: KeyRange
    public var epoch: RegionEpoch
    /// The leader's node, as far as the answering node knows.
    public var leader: NodeID?
    /// The nodes that hold a peer.
    public var nodes: [NodeID]

    public init(
        region: RegionID, range: KeyRange, epoch: RegionEpoch, leader: NodeID?, nodes: [NodeID]
    ) {
        self.region = region
        self.range = range
        self.epoch = epoch
        self.leader = leader
        self.nodes = nodes
    }
}

/// The cluster as one node sees it.
public struct Topology: Hashable, Sendable {
    public var cluster: ClusterID
    /// The answering node.
    public var node: NodeID
    /// Addresses by node, ascending by id.
    public var nodes: [NodeAddress]
    /// User regions, ascending by range.
    public var regions: [RegionInfo]

    public init(cluster: ClusterID, node: NodeID, nodes: [NodeAddress], regions: [RegionInfo]) {
        self.cluster = cluster
        self.node = node
        self.nodes = nodes
        self.regions = regions
    }
}

/// Where a node is reached.
public struct NodeAddress: Hashable, Sendable {
    public var node: NodeID
    public var name: String
    /// Empty: it is no node of the cluster any more, and some region still counts on it.
    public var address: String
    /// Whether it has to be replaced in the regions that it held.
    public var isGone: Bool { address.isEmpty }
    public init(node: NodeID, name: String, address: String) {
        self.node = node
        self.name = name
        self.address = address
    }
}

/// Why a request was not answered. The case says whether asking again is safe.
public enum RequestError: Error, Hashable, Sendable {
    /// Nothing was appended anywhere: safe to ask again, here or elsewhere.
    case rejected(Rejection)
    /// The command was appended, then leadership or patience ran out: it may yet be applied.
    case outcomeUnknown

    /// What to change before asking again.
    public enum Rejection: Hashable, Sendable {
        /// Ask the leader's node, if known; the region as this node knows it is attached.
        case notLeader(RegionInfo)
        /// The region changed: route anew by these.
        case staleEpoch(current: [RegionInfo])
        /// A queue is full: wait a little.
        case overloaded
        /// The node has no region for this key yet, or is stopping.
        case unavailable(String)
        /// The request itself is at fault and will never succeed.
        case invalid(String)
        /// The deadline passed before anything was done.
        case timedOut
        /// The log has no room: its volume is full, or the node has no file descriptor left. Deletes and
        /// reads go on.
        case diskFull
        /// The region does not take the command's session, as it was not used for long or there were too
        /// many: open another one and ask in that.
        case sessionExpired
        /// A region was not divided, for this reason.
        case notSplit(SplitRefusal)
    }
}
