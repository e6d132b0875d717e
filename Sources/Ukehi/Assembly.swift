// How a node's parts are put together: the only place that knows all of them.
//
//   configuration ─→ file system, clock, threads       UkehiPOSIX
//                 ─→ event loops, sockets              UkehiTransport
//                 ─→ state store behind an applier     UkehiState, UkehiRocksDB
//                 ─→ NodeCore, which opens log, lock and identity in the directory
//
//   data_dir/  lock  identity  wal/  state/

package import Logging
internal import NIOCore
internal import NIOPosix
package import UkehiBase
internal import UkehiEnvironment
package import UkehiNode
internal import UkehiPOSIX
package import UkehiState
internal import UkehiTransport
internal import UkehiWAL

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Musl)
    internal import Musl
#endif

/// A node's parts, started together and stopped together.
package final class Assembly: Sendable {
    /// The engine; requests may be submitted from any thread.
    package let core: NodeCore
    /// Where others reach the node, `host:port`, with the port that was really bound.
    package let address: String
    package let configuration: Configuration
    private let loops: MultiThreadedEventLoopGroup

    /// Takes the directory, recovers the log and the state; ``start()`` opens the network.
    ///
    /// - Parameters:
    ///   - stateMachine: Makes a region's state machine; nil: the key-value machine on the
    ///     configured store.
    ///   - onFailure: Called once, on any thread, when the node cannot go on.
    /// - Throws: ``ConfigurationError`` or ``NodeError``.
    package init(
        configuration: Configuration, logger: Logger,
        stateMachine: (@Sendable (RegionID, KeyRange) -> any StateMachine)?,
        onFailure: @escaping @Sendable (NodeError) -> Void
    ) async throws {
        try configuration.validate()
        self.configuration = configuration
        let directory = configuration.cluster.dataDirectory
        let laneCount = configuration.laneCount
        let loops = MultiThreadedEventLoopGroup(numberOfThreads: laneCount)
        self.loops = loops
        do {
            let lanes = loops.makeIterator().map { $0 }
            let clock = SystemClock()
            guard let listen = EndpointText(configuration.cluster.listen) else {
                throw ConfigurationError(problems: [
                    .init(path: "cluster.listen", reason: "it is no host:port")
                ])
            }
            var limits = WireLimits.standard
            // Whoever connects must not take the descriptors that the log and the state need.
            limits.maxConnections = min(limits.maxConnections, OpenFileLimit.current / 2)
            let transport = NIOTransport(
                host: listen.host, port: listen.port, lanes: lanes,
                inbound: laneCount == 1 ? lanes[0] : loops, clock: clock, logger: logger,
                limits: limits)
            var address = configuration.cluster.advertise
            if address.isEmpty {
                var bound = listen
                // A free port is known only once it is bound; any other port is bound after the
                // directory's lock, so that a second start says what is really wrong.
                if listen.port == 0 { bound.port = try transport.listen() }
                address = bound.description
            }
            self.address = address
            let posix: any FileSystem = POSIXFileSystem()
            let fileSystem = configuration.wal.unsafeNoFsync ? UnsafeFileSystem(posix) : posix
            if configuration.wal.unsafeNoFsync {
                logger.warning("wal.unsafe_no_fsync: a power cut will lose acknowledged writes")
            }
            var walOptions = WALOptions()
            walOptions.segmentBytes = configuration.wal.segmentMegabytes << 20
            let threshold = configuration.wal.compressionThresholdKilobytes
            walOptions.compressionThresholdBytes = threshold > 0 ? threshold << 10 : nil
            walOptions.scrubBytesPerSecond = configuration.wal.scrubMegabytesPerSecond << 20
            let onDamage =
                configuration.wal.onDamage
                ?? (configuration.cluster.peers.isEmpty ? .refuse : .repair)
            walOptions.damagePolicy = onDamage == .repair ? .repair : .refuse
            core = try NodeCore(
                options: configuration.nodeOptions(address: address), directory: directory,
                environment: NodeEnvironment(
                    fileSystem: fileSystem, clock: clock, random: SystemRandomSource(),
                    makeWorker: { ThreadWorker(name: $0) },
                    makeBackgroundWorker: { ThreadWorker(name: $0, isBackground: true) },
                    parallel: ThreadRunner()),
                walOptions: walOptions,
                makeApplier: { () throws(NodeError) in
                    try configuration.makeApplier(stateMachine: stateMachine)
                },
                transport: transport,
                executors: lanes.map { EventLoopLaneExecutor($0) }, logger: logger,
                onFailure: onFailure)
        } catch {
            try? await loops.shutdownGracefully()
            throw error
        }
    }

    /// Listens and begins; returns when the node serves, or at once while it still waits for the
    /// other nodes of a new cluster.
    package func start() async throws {
        do { try core.start() } catch {
            await stop()
            throw error
        }
        let waitsForOthers = core.topology == nil && !configuration.cluster.peers.isEmpty
        guard !waitsForOthers else { return }
        do { try await open() } catch {
            await stop()
            throw error
        }
    }

    /// Returns when the node's regions are open.
    package func open() async throws {
        try await withCheckedThrowingContinuation { continuation in
            core.whenOpen { continuation.resume(with: $0) }
        }
    }

    /// Stops everything; the directory is free afterwards.
    package func stop() async {
        await core.stop()
        try? await loops.shutdownGracefully()
    }
}

extension Configuration {
    /// Event loops: as configured, or one per two cores, since disk and apply threads need the rest.
    fileprivate var laneCount: Int {
        runtime.lanes > 0
            ? runtime.lanes : max(1, min(16, sysconf(Int32(_SC_NPROCESSORS_ONLN)) / 2))
    }

    fileprivate func nodeOptions(address: String) -> NodeOptions {
        var options = NodeOptions(name: cluster.nodeID, address: address, peers: cluster.peers)
        options.electionTimeoutMilliseconds = raft.electionTimeoutMilliseconds
        options.heartbeatIntervalMilliseconds = raft.heartbeatIntervalMilliseconds
        options.initialRanges = StaticRanges.ranges(count: sharding.shardCount)
        options.compactionInterval = raft.snapshotInterval
        options.maxLogEntries = raft.maxLogEntries
        options.maxLogBytes = raft.maxLogMegabytes << 20
        options.snapshotBytesPerSecond =
            raft.snapshotMegabytesPerSecond == 0
            ? 1 << 40 : raft.snapshotMegabytesPerSecond << 20
        options.maxUnflushedLogBytes = raft.maxUnflushedLogMegabytes << 20
        options.splitBytes = sharding.splitThresholdMegabytes << 20
        options.splitLoadPerSecond = sharding.splitLoadPerSecond
        options.laneCount = laneCount
        options.rebalanceThreshold = sharding.rebalanceThreshold
        return options
    }
}
