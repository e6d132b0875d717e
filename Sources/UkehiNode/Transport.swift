// What a node needs of its network. UkehiTransport implements it with sockets, the simulator with
// queues; the node owns the interface because it is the one that uses it.

public import UkehiBase
public import UkehiRaft

/// One Raft message on its way between two peers of a region. The peers' ids are in the message.
public struct RegionMessage: Sendable {
    public var region: RegionID
    /// The sender's epoch of the region (RULES 18).
    public var epoch: RegionEpoch
    public var message: Message

    public init(region: RegionID, epoch: RegionEpoch, message: Message) {
        self.region = region
        self.epoch = epoch
        self.message = message
    }
}

/// Who speaks on a connection, said by both sides before anything else.
public struct Hello: Hashable, Sendable {
    /// The configured name, as `node-1`.
    public var name: String
    /// Where the node can be reached by others, `host:port`.
    public var address: String
    public var incarnation: Incarnation
    /// Nil while the node belongs to no cluster.
    public var cluster: ClusterID?
    /// Nil while the node belongs to no cluster.
    public var node: NodeID?
    /// The last recovery from a lost quorum that the node knows of (RULES 74).
    public var generation: UInt64

    public init(
        name: String, address: String, incarnation: Incarnation, cluster: ClusterID?, node: NodeID?,
        generation: UInt64 = 0
    ) {
        self.name = name
        self.address = address
        self.incarnation = incarnation
        self.cluster = cluster
        self.node = node
        self.generation = generation
    }
}

/// Whether a connection goes on after the handshake.
public enum HandshakeVerdict: Sendable {
    case accept
    /// Closed, with this reason told to the other side and logged on both.
    case refuse(String)
    /// The same, for good: the other side was a node of our cluster, and is none any more.
    case dismiss(String)
}

/// Calls into the node; any thread, never blocking.
public protocol TransportEvents: AnyObject, Sendable {
    /// What to say of ourselves now; asked at each handshake.
    func localHello() -> Hello
    /// Judges a peer node's hello; `dialed` is the configured address if we called.
    func judge(_ remote: Hello, dialed: String?) -> HandshakeVerdict
    /// A connection that we dialed is ready for ``Transport/sendControl(_:to:)`` and messages.
    func connected(_ remote: Hello, dialed: String)
    /// The node at a dialed address will not talk to us, for who we are; repeated while that is so.
    func refused(_ reason: String, dialed: String)
    /// A node of our cluster says that this one is none any more.
    func dismissed(_ reason: String, by address: String)
    /// Raft messages from a node of our cluster.
    func received(_ messages: [RegionMessage], from node: NodeID)
    /// Bytes of the bootstrap conversation (``BootstrapMessage``), opaque to the transport.
    func received(control: Bytes, from remote: Hello)
    /// Messages to the node were dropped, or its connection broke; told at most once per break.
    func unreachable(_ node: NodeID)
    /// A remote client's request; the reply goes to its sink on any thread.
    func submit(_ request: ClientRequest)
}

/// Sends for a node. All methods are thread-safe and never block; what cannot be sent is dropped
/// and reported by ``TransportEvents/unreachable(_:)``: Raft repairs losses.
open class Transport: @unchecked Sendable {
    // Safety: no stored state here; subclasses guard their own.
    public init() {}

    /// Starts listening and dialing `peers` (host:port), again and again with back-off.
    open func start(_ events: any TransportEvents, peers: [String]) throws {
        fatalError("a transport starts")
    }
    /// Dials these, too, from now on; does nothing for those it dials already.
    open func dial(_ addresses: [String]) { fatalError("a transport dials") }
    /// Dials these no more, and ends what connections they led to.
    open func hangUp(_ addresses: [String]) {}
    /// Where this node is reached, once started; nil: as configured.
    open var boundAddress: String? { nil }
    /// Sends one lane pass's messages for one node; small ones on the control connection of the
    /// lane, those whose entries exceed 64 KiB on its bulk connection. Empties nothing.
    open func send(_ messages: [RegionMessage], to node: NodeID, lane: Int) {
        fatalError("a transport sends")
    }
    /// Sends bytes of the bootstrap conversation to a dialed address.
    open func sendControl(_ bytes: Bytes, to address: String) {
        fatalError("a transport sends")
    }
    /// Closes everything; returns when no more calls are made into the node.
    open func stop() async { fatalError("a transport stops") }
}
