"""What dry runs print, line by line: one host and two, with a rank table and without, NPUs and CPUs."""

RANK_TABLE_TEXT = """\
# rank table scheme, 2 ranks on this host
unset CM_CHIEF_DEVICE CM_CHIEF_IP CM_CHIEF_PORT CM_WORKER_IP CM_WORKER_SIZE RANK_ID
export ASCEND_DEVICE_ID=0
export ASCEND_GLOBAL_LOG_LEVEL=3
export ENABLE_FORCE_V2_CONTROL=1
export GLOG_logtostderr=true
export GLOG_stderrthreshold=2
export HCCL_CONNECT_TIMEOUT=1200
export HCCL_OP_RETRY_ENABLE='L0:0, L1:0, L2:0'
export JOB_ID=10086
export LD_LIBRARY_PATH=/NODE/sdk/mx_rec/libasc
export PYTHONPATH=/PROJECT:/NODE/sdk/mx_rec:/NODE/sdk/mx_rec/libasc:/NODE/sdk
export RANK_SIZE=2
export RANK_TABLE_FILE=/NODE/hccl.json
export TF_CPP_MIN_LOG_LEVEL=3
horovodrun --network-interface lo -np 2 '--mpi-args=-bind-to none' --mpi -H localhost:2 /opt/python3.7 -m \
estimator_app.launch.rank estimator_app train --device npu --data_dir '/data/a b' --batch_size 64
"""

RANK_TABLE_FREE_TEXT = """\
# rank-table-free scheme, 8 ranks on this host
unset RANK_ID RANK_SIZE RANK_TABLE_FILE
export ASCEND_DEVICE_ID=0
export ASCEND_GLOBAL_LOG_LEVEL=3
export CM_CHIEF_DEVICE=0
export CM_CHIEF_IP=192.0.2.10
export CM_CHIEF_PORT=60001
export CM_WORKER_IP=192.0.2.10
export CM_WORKER_SIZE=8
export ENABLE_FORCE_V2_CONTROL=1
export GLOG_logtostderr=true
export GLOG_stderrthreshold=2
export HCCL_CONNECT_TIMEOUT=1200
export HCCL_OP_RETRY_ENABLE='L0:0, L1:0, L2:0'
export JOB_ID=10086
export LD_LIBRARY_PATH=/NODE/sdk/mx_rec/libasc
export PYTHONPATH=/PROJECT:/NODE/sdk/mx_rec:/NODE/sdk/mx_rec/libasc:/NODE/sdk
export TF_CPP_MIN_LOG_LEVEL=3
horovodrun --network-interface lo -np 8 '--mpi-args=-bind-to none' --mpi -H localhost:8 /opt/python3.7 -m \
estimator_app.launch.rank estimator_app train --device npu --data_dir data
"""

TWO_HOSTS = "192.0.2.10:8,192.0.2.11:8"
TWO_HOSTS_TABLE_TEXT = """\
# rank table scheme, 16 ranks on 192.0.2.10:8,192.0.2.11:8
unset CM_CHIEF_DEVICE CM_CHIEF_IP CM_CHIEF_PORT CM_WORKER_IP CM_WORKER_SIZE RANK_ID
export ASCEND_DEVICE_ID=0
export ASCEND_GLOBAL_LOG_LEVEL=3
export ASCEND_OPP_PATH=/opp
export ENABLE_FORCE_V2_CONTROL=1
export GLOG_logtostderr=true
export GLOG_stderrthreshold=2
export HCCL_CONNECT_TIMEOUT=1200
export HCCL_OP_RETRY_ENABLE='L0:0, L1:0, L2:0'
export JOB_ID=10086
export LD_LIBRARY_PATH=/NODE/sdk/mx_rec/libasc
export PATH=/NODE/bin
export PYTHONPATH=/PROJECT:/NODE/sdk/mx_rec:/NODE/sdk/mx_rec/libasc:/NODE/sdk
export RANK_SIZE=16
export RANK_TABLE_FILE=/NODE/hccl.json
export TF_CPP_MIN_LOG_LEVEL=3
mpirun --allow-run-as-root --tag-output -np 16 -H 192.0.2.10:8,192.0.2.11:8 -bind-to none \
-mca btl_tcp_if_include eth0 -mca oob_tcp_if_include eth0 \
-x ASCEND_DEVICE_ID -x ASCEND_GLOBAL_LOG_LEVEL -x ASCEND_OPP_PATH -x ENABLE_FORCE_V2_CONTROL -x GLOG_logtostderr \
-x GLOG_stderrthreshold -x HCCL_CONNECT_TIMEOUT -x HCCL_OP_RETRY_ENABLE -x JOB_ID -x LD_LIBRARY_PATH -x PATH \
-x PYTHONPATH -x RANK_SIZE -x RANK_TABLE_FILE -x TF_CPP_MIN_LOG_LEVEL \
/opt/python3.7 -m estimator_app.launch.rank estimator_app train --device npu --data_dir data
"""

TWO_HOSTS_FREE_TEXT = """\
# rank-table-free scheme, 16 ranks on 192.0.2.10:8,192.0.2.11:8
unset CM_WORKER_IP RANK_ID RANK_SIZE RANK_TABLE_FILE
export ASCEND_DEVICE_ID=0
export ASCEND_GLOBAL_LOG_LEVEL=3
export ASCEND_OPP_PATH=/opp
export CM_CHIEF_DEVICE=0
export CM_CHIEF_IP=192.0.2.10
export CM_CHIEF_PORT=60001
export CM_WORKER_SIZE=16
export ENABLE_FORCE_V2_CONTROL=1
export ESTIMATOR_WORKER_IPS=192.0.2.10,192.0.2.11
export GLOG_logtostderr=true
export GLOG_stderrthreshold=2
export HCCL_CONNECT_TIMEOUT=1200
export HCCL_OP_RETRY_ENABLE='L0:0, L1:0, L2:0'
export JOB_ID=10086
export LD_LIBRARY_PATH=/NODE/sdk/mx_rec/libasc
export PYTHONPATH=/PROJECT:/NODE/sdk/mx_rec:/NODE/sdk/mx_rec/libasc:/NODE/sdk
export TF_CPP_MIN_LOG_LEVEL=3
horovodrun -np 16 '--mpi-args=-bind-to none' --mpi -H 192.0.2.10:8,192.0.2.11:8 /opt/python3.7 -m \
estimator_app.launch.rank estimator_app train --device npu --data_dir data
"""

CPU_TEXT = """\
# CPU scheme, 8 ranks on h1:4,h2:4
unset CM_CHIEF_DEVICE CM_CHIEF_IP CM_CHIEF_PORT CM_WORKER_IP CM_WORKER_SIZE RANK_ID RANK_SIZE RANK_TABLE_FILE
export JOB_ID=10086
export PYTHONPATH=/PROJECT
export TF_CPP_MIN_LOG_LEVEL=2
/opt/horovodrun --gloo --disable-cache --network-interface eth0 -np 8 -H h1:4,h2:4 /opt/python3.7 -m \
estimator_app.launch.rank estimator_app eval --device cpu --model_dir runs/x
"""
