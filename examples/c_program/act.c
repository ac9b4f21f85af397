// Acts with an exported policy through TensorFlow's C API, without Python.
//
//   act POLICY ACTION NUM_DECISIONS NUMBER...
//
// POLICY is the directory of a SavedModel that takes one vector of
// observations, ACTION its output, such as StatefulPartitionedCall:0. The
// program prints the action for the observation NUMBER... and the seed (0, 1),
// then the seconds of each of NUM_DECISIONS decisions.

#include <stdio.h>
#include <stdlib.h>
#include <tensorflow/c/c_api.h>
#include <time.h>

static TF_Status* status;

static void check(const char* what) {
  if (TF_GetCode(status) == TF_OK) return;
  fprintf(stderr, "%s: %s\n", what, TF_Message(status));
  exit(1);
}

// Finds a tensor by its name, `operation:index`.
static TF_Output find(TF_Graph* graph, const char* name) {
  char operation[256];
  int index;
  TF_Output output = {NULL, 0};
  if (sscanf(name, "%255[^:]:%d", operation, &index) == 2) {
    output.oper = TF_GraphOperationByName(graph, operation);
    output.index = index;
  }
  if (output.oper == NULL || index >= TF_OperationNumOutputs(output.oper)) {
    fprintf(stderr, "The policy has no tensor %s.\n", name);
    exit(1);
  }
  return output;
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

int main(int argc, char** argv) {
  if (argc < 5 || atoi(argv[3]) < 1) {
    fprintf(stderr, "Usage: %s POLICY ACTION NUM_DECISIONS NUMBER...\n",
            argv[0]);
    return 2;
  }
  const int num_decisions = atoi(argv[3]);
  const int size = argc - 4;
  status = TF_NewStatus();

  TF_Graph* graph = TF_NewGraph();
  TF_SessionOptions* options = TF_NewSessionOptions();
  const char* tags[] = {"serve"};
  TF_Session* session = TF_LoadSessionFromSavedModel(
      options, NULL, argv[1], tags, 1, graph, NULL, status);
  check(argv[1]);

  const TF_Output inputs[] = {
      find(graph, "serving_default_observation:0"),
      find(graph, "serving_default_seed:0"),
  };
  const TF_Output outputs[] = {find(graph, argv[2])};
  const int64_t observation_shape[] = {1, size}, seed_shape[] = {2};
  TF_Tensor* values[] = {
      TF_AllocateTensor(TF_FLOAT, observation_shape, 2, size * sizeof(float)),
      TF_AllocateTensor(TF_INT32, seed_shape, 1, 2 * sizeof(int32_t)),
  };
  for (int i = 0; i < size; ++i) {
    ((float*)TF_TensorData(values[0]))[i] = strtof(argv[4 + i], NULL);
  }
  int32_t* seed = TF_TensorData(values[1]);

  // The first decision compiles the policy and is not timed.
  for (int i = -1; i < num_decisions; ++i) {
    // A seed of its own for each decision.
    seed[0] = i + 1;
    seed[1] = 1;
    TF_Tensor* action = NULL;
    const double start = now();
    TF_SessionRun(session, NULL, inputs, values, 2, outputs, &action, 1, NULL,
                  0, NULL, status);
    const double seconds = now() - start;
    check("The policy cannot act");
    if (i < 0) {
      const int n = TF_TensorByteSize(action) / sizeof(float);
      for (int j = 0; j < n; ++j) {
        printf("%s%.6f", j ? " " : "", ((float*)TF_TensorData(action))[j]);
      }
      printf("\n");
    } else {
      printf("%.7f%c", seconds, i + 1 < num_decisions ? ' ' : '\n');
    }
    TF_DeleteTensor(action);
  }

  TF_DeleteTensor(values[0]);
  TF_DeleteTensor(values[1]);
  TF_CloseSession(session, status);
  TF_DeleteSession(session, status);
  TF_DeleteSessionOptions(options);
  TF_DeleteGraph(graph);
  TF_DeleteStatus(status);
  return 0;
}
