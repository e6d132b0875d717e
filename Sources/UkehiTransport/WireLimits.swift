// Every bound of the wire, in one place, with its reason.

package import NIOCore

/// What a connection may cost. Tests shrink them; nobody else has a reason to.
package struct WireLimits: Sendable {
    /// Payload of a frame from someone who has not said hello yet.
    package var maxPayloadBeforeHello = 64 << 10
    /// Payload of any other frame: the largest value (8 MiB), its key and its surroundings.
    package var maxPayload = 16 << 20
    /// Messages are split into frames of about this size, so that no frame delays others for long.
    package var batchBytes = 1 << 20
    /// appendEntries with more entry bytes than this go on the bulk connection (RULES 70).
    package var bulkEntryBytes = 64 << 10
    /// Bytes handed to a control connection but not yet written, past which appendEntries are
    /// dropped: what waits here can no longer be overtaken by anything more urgent.
    package var softPendingBytes = 256 << 10
    /// The same for a bulk connection, where nothing urgent travels: some whole batches, or each
    /// large append would make the next one be dropped.
    package var bulkPendingBytes = 4 << 20
    /// The same, past which everything is dropped.
    package var hardPendingBytes = 4 << 20
    /// Replies that wait for a client to read them, past which all but small ones become
    /// `overloaded`.
    package var maxPendingReplyBytes = 16 << 20
    /// Requests of one client connection that are not answered yet.
    package var maxInflightRequests = 4096
    /// Bytes of the frames they came in, which each of them keeps; one request may always be in
    /// flight.
    package var maxInflightRequestBytes = 16 << 20
    /// Connections accepted at the same time, per node; fewer where the process may open few files.
    package var maxConnections = 4096
    /// Of them by clients: the rest is for nodes, or one that was away could not come back to a full house.
    package var maxClients: Int { maxConnections - max(1, maxConnections / 8) }
    /// Bytes of frames that have begun and not ended, over all accepted connections of a node.
    package var maxAssemblingBytes = 256 << 20

    /// From the connection's start to its hello.
    package var helloTimeout: TimeAmount = .seconds(5)
    /// From a frame's first byte to its last, however the bytes trickle.
    package var frameTimeout: TimeAmount = .seconds(60)
    /// Between two bytes of one frame; and while written bytes wait, between two that are taken.
    package var stallTimeout: TimeAmount = .seconds(10)
    /// A client connection without any request.
    package var clientIdleTimeout: TimeAmount = .minutes(10)
    /// How often the above are looked at.
    package var sweepInterval: TimeAmount = .seconds(1)

    package var connectTimeout: TimeAmount = .seconds(3)
    /// How long what was sent may go unacknowledged before a connection counts as broken.
    package var unansweredMilliseconds = 5000
    /// The same of parts of snapshots. Who waits for one is patient for four election timeouts, 4 s as a rule: a
    /// connection that broke silently has to be another one by then, or it begins anew.
    package var snapshotUnansweredMilliseconds = 2000
    /// First and longest wait before dialing again; each is halved at random (jitter).
    package var firstBackoff: TimeAmount = .milliseconds(50)
    package var longestBackoff: TimeAmount = .seconds(2)
    /// While either side belongs to no cluster yet, how often the hello is said again.
    package var helloInterval: TimeAmount = .milliseconds(50)

    package init() {}
    package static let standard = WireLimits()
}
